"""What training shares among all tasks: optimizer, schedule, seeds, the search for a NaN, and what a checkpoint holds.

A task is a subclass with `loss`, `validation_step`, `scores` and `predict_one`. Everything else is Lightning's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dualvit.data.images import UnreadableError
from dualvit.data.listing import free_names, write_predictions
from dualvit.errors import InputError
from dualvit.fast import accelerate
from dualvit.finite import NonFiniteLossError, first_non_finite, is_finite, non_finite_sample
from dualvit.lone import take_lone_values
from dualvit.names import unknown_name
from dualvit.provenance import environment
from dualvit.recipes.config import Recipe, Schedule
from dualvit.recipes.content import to_store
from dualvit.recipes.progress import clock
from dualvit.seeds import seed_all
from dualvit.stored import StoredError

TICKS = 1_000_000  # in which a schedule by minutes is counted


class Task(lightning.LightningModule):
    """A network in training.

    Args:
        recipe: The settings.
        classes: Their names, in the order of the outputs.
        network: The network: a classifier, a detector or a segmenter.

    Attributes:
        metric: The name of the score that the best checkpoint has most of.
        endings: Of the files that a prediction writes for each image.
        history: A row for each validation: epoch, step, loss, scores.
        begun: Whether training has started, and what went on from a checkpoint has been read.
        validated: Batches of the validation that runs, in which something could be read.
    """

    metric: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = (".png",)
    scheduler: Scheduler

    def __init__(self, recipe: Recipe, classes: tuple[str, ...], network: nn.Module) -> None:
        super().__init__()
        self.recipe, self.classes = recipe, tuple(classes)
        self.network = accelerate(network).to(memory_format=torch.channels_last)
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.images_before: int | None = None
        self.begun = False
        self.validated = 0
        self.lone: list[RemovableHandle] = []

    # ---- what a task says

    def loss(self, batch: Any) -> Mapping[str, Tensor]:
        """The parts of the loss, by name; they are added up."""
        raise NotImplementedError

    def scores(self) -> Mapping[str, float]:
        """The scores of the validation that has just ended, `metric` among them; a new one begins."""
        raise NotImplementedError

    def said(self, outputs: Any) -> list[dict[str, Any]]:
        """What a validation step said of each picture of its batch, as JSON holds it."""
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, files: Sequence[Path], out: Path) -> Iterator[str]:
        """Write predictions for images, as predictions.json and pictures, to a folder; yield a line for each image."""
        self.eval()
        out.mkdir(parents=True, exist_ok=True)
        about, names = free_names(files, out, self.endings)
        content, done = self.no_predictions(), 0
        for file, name in zip(files, names, strict=True):
            try:
                line = self.predict_one(file, out, name, content)
            except UnreadableError as error:
                yield f"skipped: {error}"
            else:
                done += 1
                yield f"{file}: {line}"
        if not done:
            raise InputError(f"none of the {len(files)} images can be used; nothing is written to {out}")
        yield from write_predictions(about, content)

    def no_predictions(self) -> dict[str, list[Any]]:
        """Return the content of predictions.json before the first image."""
        return {"predictions": []}

    def predict_one(self, file: Path, out: Path, name: str, content: dict[str, list[Any]]) -> str:
        """Add an image's prediction to the content of predictions.json, and write its pictures; return them in words.

        Raises:
            UnreadableError: the image cannot be read.
        """
        raise NotImplementedError

    def backbone(self) -> nn.Module:
        """The network whose weights timm and YOLO can read."""
        return self.network

    # ---- what Lightning calls

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.recipe.optimizer
        lr = settings.lr * (self.recipe.data.batch / settings.lr_batch if settings.lr_batch else 1)
        if settings.name not in list_optimizers():
            raise InputError(f"{unknown_name('optimizer.name', settings.name, list_optimizers())}; timm's are allowed")
        optimizer = create_optimizer_v2(
            self.network, settings.name, lr=lr, weight_decay=settings.weight_decay,
            layer_decay=settings.layer_decay, eps=settings.eps,
        )  # fmt: skip
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # travels in checkpoints, where `lr` is that of the moment
        return optimizer

    def on_train_start(self) -> None:
        self.begun = True
        if self.images_before not in (None, self.images()):
            raise InputError(
                f"{self.recipe.data.root} had {self.images_before} images to train on when this run began, and has "
                f"{self.images()}; give the same data, or another --out"
            )
        every = self.trainer.check_val_every_n_epoch or 1
        if every > (self.epochs() or 1):
            length = (
                f"{self.epochs()} epochs: nothing" if self.epochs() else "an end in any epoch: its last one perhaps not"
            )
            raise InputError(
                f"trainer.check_val_every_n_epoch is {every}, and the run has {length} would be validated; give less"
            )
        optimizer = self.optimizers().optimizer  # type: ignore[union-attr]
        self.scheduler = scheduler(optimizer, self.recipe.schedule, self.steps(), self.steps_an_epoch())

    def steps_an_epoch(self) -> float:
        """Optimizer steps in one epoch."""
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    def steps(self) -> int:
        """Optimizer steps until the learning rate is at its lowest."""
        schedule = self.recipe.schedule
        return schedule.steps or round((schedule.epochs or 0) * self.steps_an_epoch()) or TICKS

    def epochs(self) -> int:
        """Passes through the data, the last one perhaps in part; 0 if minutes end the run."""
        if self.recipe.schedule.minutes:
            return 0
        if self.recipe.schedule.steps:
            return math.ceil(self.steps() / self.steps_an_epoch())
        return int(self.trainer.max_epochs or 0)

    def progress(self) -> float:
        """The share of the training that is done, 0..1."""
        if self.recipe.schedule.minutes:
            return min(clock(self.trainer).time_elapsed() / (60 * self.recipe.schedule.minutes), 1.0)
        steps = self.recipe.schedule.steps or self.epochs() * self.steps_an_epoch()
        return min(self.global_step / steps, 1.0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """A step's learning rate and randomness depend on its number alone: a resumed run is a straight one.

        Of a run by minutes, the learning rate depends on the clock, after a warm-up by steps.
        """
        if self.recipe.schedule.minutes:
            self.scheduler.step_update(round(self.progress() * TICKS))
            warm = (self.global_step + 1) / (_warmup(self.recipe.schedule, self.steps_an_epoch()) + 1)
            for group in self.optimizers().optimizer.param_groups:  # type: ignore[union-attr]
                group["lr"] *= min(warm, 1.0)
        else:
            self.scheduler.step_update(self.global_step)
        seed_all(f"{self.recipe.seed} {self.current_epoch} {batch_idx} {self.global_rank}")
        if len(batch[0]) == 1:
            self.lone = take_lone_values(self.network)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        while self.lone:
            self.lone.pop().remove()
        self._stop_after_the_last(self.global_step)

    def _stop_after_the_last(self, step: int) -> None:
        """The last of `schedule.steps` may end an epoch before its time; Lightning still validates and saves it."""
        if self.recipe.schedule.steps and step >= self.recipe.schedule.steps:
            self.trainer.should_stop = True

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = self.loss(batch)
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        if not is_finite(loss):
            self._stop(parts, batch, batch_idx)
        self.losses.append(loss.detach())
        self.log("loss", loss.detach(), prog_bar=True)
        self.log_dict({name: part.detach() for name, part in parts.items() if len(parts) > 1})
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def _stop(self, parts: Mapping[str, Tensor], batch: Any, batch_idx: int) -> None:
        position = non_finite_sample(tuple(batch))  # loaders make lists of tuples, which would pass for samples
        if position is not None:
            name = self.trainer.datamodule.sample_name(self.current_epoch, batch_idx, position)  # type: ignore[attr-defined]
            raise NonFiniteLossError(
                f"the loss is not finite in step {self.global_step + 1}, since its input is not: {name}; "
                "repair or remove it"
            )
        culprit = first_non_finite(self.network, lambda: self.loss(batch))
        values = ", ".join(f"{name} {float(part.detach()):g}" for name, part in parts.items())
        raise NonFiniteLossError(
            f"the loss is not finite in step {self.global_step + 1} ({values}): first in {culprit}; "
            "lower optimizer.lr, set optimizer.clip=1, or train with trainer.precision=32-true"
        )

    def on_validation_epoch_start(self) -> None:
        self.validated = 0

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated += batch is not None

    def on_validation_epoch_end(self) -> None:
        readable = torch.tensor(float(self.validated), device=self.device)
        if not self.trainer.strategy.reduce(readable, reduce_op="sum"):
            said = self.trainer.datamodule.skipped.lines()  # type: ignore[attr-defined]
            raise InputError(
                f"none of the images to validate on can be read{f'; the last: {said[-1]}' if said else ''}"
            )
        scores = dict(self.scores())
        self.log_dict({name: score for name, score in scores.items() if name != self.metric})
        self.log(self.metric, scores[self.metric], prog_bar=True)
        if self.trainer.state.fn != "fit":
            return
        row: dict[str, float] = {"epoch": self.current_epoch + 1, "step": self.global_step}
        if self.losses:
            mean = torch.stack(self.losses).float().mean()
            row["loss"] = float(self.trainer.strategy.reduce(mean, reduce_op="mean"))  # of all processes
        self.history = [old for old in self.history if old["step"] != row["step"]] + [row | scores]
        self.losses = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dualvit"] = {
            "recipe": to_store(self.recipe),
            "classes": list(self.classes),
            "environment": environment(self.device.type == "cuda"),
            "history": self.history,
            "images": self.images(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["dualvit"]["history"])
        if any(self.metric not in row for row in self.history):
            raise StoredError(f"its history has no {self.metric}")
        self.images_before = checkpoint["dualvit"].get("images")
        self._stop_after_the_last(checkpoint["global_step"])

    def images(self) -> int | None:
        """Samples in an epoch of training; None where the data does not tell."""
        data = getattr(self.trainer.train_dataloader, "dataset", None)
        try:
            return len(data)  # type: ignore[arg-type]
        except TypeError:
            return None


def scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int, steps_an_epoch: float) -> Scheduler:
    """timm's schedule, counted in steps.

    Args:
        optimizer: Whose learning rates it sets; a group's `lr_scale` multiplies its own.
        schedule: The settings.
        steps: Until the learning rate is at its lowest.
        steps_an_epoch: Steps in one epoch.
    """
    warmup = 0 if schedule.minutes else _warmup(schedule, steps_an_epoch)
    common: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": schedule.warmup_lr}
    common |= {"t_in_epochs": False, "initialize": False}
    if schedule.shape == "multistep":
        # timm's milestones come into force a step early; a prefix would shift them by the warm-up.
        milestones = [round(epoch * steps_an_epoch) + 1 for epoch in schedule.milestones]
        return MultiStepLRScheduler(optimizer, milestones, 0.1, warmup_prefix=False, **common)
    if schedule.shape == "poly":
        return PolyLRScheduler(optimizer, steps, schedule.power, schedule.min_lr, **common)
    return CosineLRScheduler(optimizer, steps, schedule.min_lr, **common)


def _warmup(schedule: Schedule, steps_an_epoch: float) -> int:
    return schedule.warmup_steps or round(schedule.warmup_epochs * steps_an_epoch)
