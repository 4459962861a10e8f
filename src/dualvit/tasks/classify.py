"""Classification on Lightning: any timm model, one recipe, resumable at each epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import timm
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dualvit.data.images import ImageFolders, Pictures, training_transform, validation_transform
from dualvit.models import create_model
from dualvit.tasks.recipes import ClassifyRecipe

FLOOR = 0.01  # of the learning rate, at the end of the cosine
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of epochs or of seconds, exactly one of them."""

    epochs: int | None = None
    seconds: float | None = None


@dataclass
class History:
    """What is known of each epoch so far; it travels in the checkpoint."""

    epochs: list[dict[str, float]] = field(default_factory=list)


def build(name: str, options: dict[str, Any], classes: int, image_size: int) -> nn.Module:
    """A timm model for pictures of `image_size`; models of a fixed size are told it."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".", 1)[0]) else None
    if config is not None and config.fixed_input_size:
        options = {"img_size": image_size, **options}
    return create_model(name, num_classes=classes, **options)


class Classifier(lightning.LightningModule):
    """A model in training: loss, accuracy, optimizer and the learning rate of each step.

    Args:
        model: (B, 3, H, W) to logits (B, classes).
        recipe: The settings.
        budget: Epochs or seconds, which the cosine spans.
        report: Called with what is known after each epoch, and now and then within one.
    """

    def __init__(self, model: nn.Module, recipe: ClassifyRecipe, budget: Budget, report: Report) -> None:
        super().__init__()
        self.model, self.recipe, self.budget, self.report = model, recipe, budget, report
        self.history = History()
        self.losses: list[Tensor] = []
        self.right = self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_optimizer_v2(self.model, "adamw", lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)

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
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"loss is {float(loss):g} in epoch {self.current_epoch + 1}; lower lr")
        self.losses.append(loss.detach())
        return loss

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
        self.history.epochs = [old for old in self.history.epochs if old["epoch"] != row["epoch"]] + [row]
        self.right, self.seen, self.losses = 0, 0, []
        self.log("top1", row["top1"])

    def on_train_epoch_end(self) -> None:
        self.report({"progress": self.progress(), "epochs": self.history.epochs, "epoch_end": True})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history.epochs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history.epochs = list(checkpoint["history"])


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


class PeakMemory(Callback):
    """Calls back before the first and after the last step: memory is measured between the two."""

    def __init__(self, start: Callable[[], None]) -> None:
        self.start = start

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.start()


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
    # An incomplete last batch is left out, for batch norm's sake, unless it is the only one.
    order = torch.Generator().manual_seed(seed)
    return (
        DataLoader(train, batch, shuffle=True, drop_last=len(train) >= batch, generator=order, **common),
        DataLoader(val, 2 * batch, **common),
    )


def train(
    folder: Path,
    model: nn.Module,
    data: tuple[DataLoader[Any], DataLoader[Any]],
    recipe: ClassifyRecipe,
    budget: Budget,
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
        cuda: Train on the first visible GPU instead of the CPU.
        report: Called with what is known so far.
        start: Called when everything is in place and training begins.

    Returns:
        For each epoch: its number, top-1 on the validation pictures, training loss, and seconds so far.
    """
    module = Classifier(model, recipe, budget, report)
    keep = ModelCheckpoint(
        folder, filename="best", monitor="top1", mode="max", save_last=True, save_on_train_epoch_end=True,
        enable_version_counter=False,
    )  # fmt: skip
    limit = None if budget.seconds is None else timedelta(seconds=budget.seconds)
    trainer = lightning.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=1,
        max_epochs=budget.epochs or -1,
        gradient_clip_val=recipe.clip_grad or None,
        callbacks=[Timer(limit, verbose=False), PeakMemory(start), keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    last = folder / "last.ckpt"
    trainer.fit(module, *data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    return module.history.epochs
