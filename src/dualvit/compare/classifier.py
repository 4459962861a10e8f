"""Classification in a comparison: any timm model, one setting for all, epochs or seconds, resumable at each epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from dualvit.compare.settings import ClassifyRecipe
from dualvit.data.images import ImageFolders, Pictures, training_transform, validation_transform
from dualvit.finite import NonFiniteLossError, first_non_finite, is_finite, non_finite_sample
from dualvit.recipes.checkpoints import WholeFiles, keepers, latest

FLOOR = 0.01  # of the learning rate, at the end of the cosine
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of epochs or of seconds, exactly one of them."""

    epochs: int | None = None
    seconds: float | None = None


class Classifier(lightning.LightningModule):
    """A model in training: loss, accuracy, optimizer and the learning rate of each step.

    Args:
        model: (B, 3, H, W) to logits (B, classes).
        recipe: The settings.
        budget: Epochs or seconds, which the cosine spans.
        seed: Decides each epoch's crops and colours, so that a resumed run sees those of a straight one.
        report: Called with what is known after each epoch and each step.
    """

    def __init__(self, model: nn.Module, recipe: ClassifyRecipe, budget: Budget, seed: int, report: Report) -> None:
        super().__init__()
        self.recipe, self.budget, self.seed, self.report = recipe, budget, seed, report
        self.model = model.to(memory_format=torch.channels_last)  # a sixth faster on a CPU, transformers included
        self.epochs: list[dict[str, float]] = []  # it travels in the checkpoint
        self.losses: list[Tensor] = []
        self.right = self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.contiguous(memory_format=torch.channels_last))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_optimizer_v2(self.model, "adamw", lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(1_000_003 * self.seed + self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = lr_factor(self.progress(), self.warmup())
        for group in self.optimizers().optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = self.recipe.lr * factor * group.get("lr_scale", 1.0)

    def steps_an_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return int(self.trainer.num_training_batches)

    def progress(self) -> float:
        """The share of the budget that is used up, 0..1."""
        if self.budget.seconds is not None:
            return min(timer(self.trainer).time_elapsed() / self.budget.seconds, 1.0)
        assert self.budget.epochs is not None
        return min(self.global_step / (self.steps_an_epoch() * self.budget.epochs), 1.0)

    def warmup(self) -> float:
        """How far the warm-up is, 0..1."""
        steps = min(self.recipe.warmup_epochs, (self.budget.epochs or math.inf) / 2) * self.steps_an_epoch()
        return 1.0 if self.global_step >= steps else (self.global_step + 1) / (steps + 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.recipe.label_smoothing)
        if not is_finite(loss):
            self._stop(float(loss.detach()), images, batch_idx)
        self.losses.append(loss.detach())
        return loss

    def _stop(self, loss: float, images: Tensor, batch_idx: int) -> None:
        words = f"loss is {loss:g} in epoch {self.current_epoch + 1}"
        position = non_finite_sample(images)
        if position is not None:
            loader: Any = self.trainer.train_dataloader
            index = list(loader.sampler)[batch_idx * loader.batch_size + position]
            raise NonFiniteLossError(f"{words}, since its input is: {loader.dataset.samples[index][0]}; remove it")
        culprit = first_non_finite(self.model, lambda: self(images))
        raise NonFiniteLossError(f"{words}: first in {culprit}; lower lr")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.report({"progress": self.progress(), "seconds": timer(self.trainer).time_elapsed()})

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.right += int((self(images).argmax(1) == labels).sum())
        self.seen += len(labels)

    def on_validation_epoch_end(self) -> None:
        """Close the books of an epoch: training ends with a validation, also where time ran out in between."""
        row = {
            "epoch": self.current_epoch + 1,
            "top1": self.right / max(self.seen, 1),
            "loss": float(torch.stack(self.losses).mean()) if self.losses else math.nan,
            "seconds": timer(self.trainer).time_elapsed(),
        }
        self.epochs = [old for old in self.epochs if old["epoch"] != row["epoch"]] + [row]
        self.right, self.seen, self.losses = 0, 0, []
        self.log("top1", row["top1"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.epochs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.epochs = list(checkpoint["history"])


def lr_factor(progress: float, warmup: float) -> float:
    """The learning rate as a share of its highest: linear in the warm-up, times a cosine from 1 to FLOOR.

    Example:
        >>> lr_factor(0.0, 0.5), lr_factor(0.0, 1.0), lr_factor(1.0, 1.0)
        (0.5, 1.0, 0.01)
    """
    return warmup * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * progress)) / 2)


def timer(trainer: Any) -> Timer:
    """The trainer's clock, which a resumed run sets on from where it stood."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, Timer))


class Start(Callback):
    """Calls back when everything is in place and training begins."""

    def __init__(self, start: Callable[[], None]) -> None:
        self.start = start

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.start()


class Keep(ModelCheckpoint):
    """The checkpoint of the last epoch; an epoch is reported once it is on disk: no kill can undo it."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        pl_module.report({"progress": pl_module.progress(), "epochs": pl_module.epochs, "epoch_end": True})


def loaders(
    data: ImageFolders, recipe: ClassifyRecipe, image_size: int, batch: int, workers: int, seed: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Loaders of training and validation; the order of training depends on the seed."""
    side = math.ceil(1.25 * image_size)  # a crop of crop_scale still has as many pixels as the network sees
    train = Pictures(
        data.train, side, training_transform(image_size, recipe.crop_scale, recipe.flip, recipe.colour_jitter)
    )
    val = Pictures(data.val, side, validation_transform(image_size))
    common: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    # A sampler whose order depends on seed and epoch alone; Lightning tells it the epoch.
    order: DistributedSampler[Any] = DistributedSampler(train, num_replicas=1, rank=0, seed=seed)
    # With a generator of its own, a new iterator draws nothing from the one that crops and colours come from.
    common["generator"] = torch.Generator().manual_seed(seed)
    # An incomplete last batch is left out, for batch norm's sake, unless it is the only one.
    return (
        DataLoader(train, batch, sampler=order, drop_last=len(train) >= batch, **common),
        DataLoader(val, 2 * batch, **common),
    )


def train(
    folder: Path,
    model: nn.Module,
    data: tuple[DataLoader[Any], DataLoader[Any]],
    recipe: ClassifyRecipe,
    budget: Budget,
    seed: int,
    cuda: bool,
    report: Report,
    start: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """Train, or continue from the folder's last checkpoint.

    Args:
        folder: Takes `last.ckpt`, after each epoch, and `best.ckpt`.
        model: (B, 3, H, W) to logits.
        data: Loaders of training and validation.
        recipe: The settings.
        budget: Epochs or seconds.
        seed: Of crops, colours and drop path; that of the order is in `data`, that of the weights in `model`.
        cuda: Train on the first visible GPU instead of the CPU.
        report: Called with what is known so far.
        start: Called when everything is in place and training begins.

    Returns:
        For each epoch: its number, top-1 on the validation pictures, training loss, and seconds so far.
    """
    module = Classifier(model, recipe, budget, seed, report)
    trainer = _trainer(folder, recipe, budget, cuda, start)
    trainer.fit(module, *data, ckpt_path=latest(folder, True), weights_only=True)
    return module.epochs


def _trainer(
    folder: Path, recipe: ClassifyRecipe, budget: Budget, cuda: bool, start: Callable[[], None]
) -> lightning.Trainer:
    """Lightning's trainer, quiet, with its clock and its checkpoints."""
    limit = None if budget.seconds is None else timedelta(seconds=budget.seconds)
    return lightning.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=1,
        max_epochs=budget.epochs or -1,
        gradient_clip_val=recipe.clip_grad or None,
        callbacks=[Timer(limit, verbose=False), Start(start), *keepers(folder, "top1", Keep)],
        plugins=[WholeFiles()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
