"""What a run says while it trains: a line at its start, a line for each epoch, and on a terminal Lightning's bar."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar, Timer
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.strategies import FSDPStrategy

from dualvit.progress import Listener, Row, time_left
from dualvit.seeds import digest

COLOUR = "cyan"


class Clock(Timer, Checkpoint):
    """The time that training has taken, earlier starts included; ends a run whose minutes are over.

    It is a Checkpoint for Lightning's order of calls: an epoch is told once it is on disk, so that no kill undoes it.

    Args:
        minutes: The length of the run; None has no limit.
        listener: Is told when training begins, and after each step and each epoch.

    Attributes:
        seconds: Until each validation, by its step.
        first_batch: A digest of the run's first batch, for a listener; empty for a run that went on from a checkpoint.
    """

    def __init__(self, minutes: float | None, listener: Listener | None = None) -> None:
        super().__init__(None if minutes is None else timedelta(minutes=minutes), verbose=False)
        self.listener = listener
        self.seconds: dict[int, float] = {}
        self.first_batch = ""

    def rows(self, history: list[Row]) -> list[Row]:
        """Validations with the seconds until each."""
        return [row | {"seconds": self.seconds.get(int(row["step"]), 0.0)} for row in history]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._tell(pl_module, None)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self.listener and trainer.global_step == 0 and not self.first_batch:
            self.first_batch = digest(batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        self._tell(pl_module, None)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        self.seconds[trainer.global_step] = self.time_elapsed()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._tell(pl_module, self.rows(pl_module.history))

    def _tell(self, task: Any, rows: list[Row] | None) -> None:
        if self.listener:
            self.listener(task.progress(), self.time_elapsed(), rows)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.seconds = dict(state_dict["seconds"])


def clock(trainer: Any) -> Clock:
    """The clock of a trainer."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, Clock))


class EpochLines(Callback):
    """A line on what is trained, and one for each epoch, in a log file as on a terminal."""

    started = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        network = pl_module.recipe.network.name
        millions = sum(parameter.numel() for parameter in pl_module.parameters()) / 1e6
        size = "" if isinstance(trainer.strategy, FSDPStrategy) else f", {millions:.1f} M parameters"  # a share there
        batch = min(pl_module.recipe.data.batch, pl_module.images() or sys.maxsize)
        world = f" in {trainer.world_size} processes" if trainer.world_size > 1 else ""
        epochs, minutes = pl_module.epochs(), pl_module.recipe.schedule.minutes
        length = _counted(epochs, "epoch") if epochs else f"{minutes:g} minutes, epochs"
        classes = f", {_counted(len(pl_module.classes), 'class', 'classes')}" if pl_module.classes else ""
        print(
            f"{network}{size}{classes}: {length} of {_counted(round(pl_module.steps_an_epoch()), 'step')} of "
            f"{batch} images on {trainer.strategy.root_device.type}{world}",
            flush=True,
        )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            epoch, step = trainer.current_epoch + 1, trainer.global_step
            row = next((row for row in pl_module.history[-1:] if row["step"] == step), None)
            values = "not validated" if row is None else summary(row)
            seconds, done = time.monotonic() - self.started, pl_module.progress()
            left = time_left(clock(trainer).time_elapsed(), done) if 0 < done < 1 else 0
            words = f", about {timedelta(seconds=round(left))} left" if left else ""
            print(f"epoch {epoch}, step {step}  {values}  {seconds:.0f} s{words}", flush=True)


def summary(row: Mapping[str, float]) -> str:
    """The scores of an epoch in a line; those of each class, such as iou/sky, are in results.json alone.

    Example:
        >>> summary({"epoch": 1, "step": 5, "loss": 0.5, "miou": 0.25, "iou/sky": 0.5})
        'loss 0.5000  miou 0.2500'
    """
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in PLACE and "/" not in name)


PLACE = ("epoch", "step")


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


class Bar(RichProgressBar):
    """Lightning's bar in one line of any terminal, gone once the run is over: the lines of the epochs stay."""

    def __init__(self) -> None:
        theme = RichProgressBarTheme(
            progress_bar=COLOUR, progress_bar_finished=COLOUR, progress_bar_pulse=COLOUR, processing_speed="dim"
        )
        super().__init__(refresh_rate=10, theme=theme)

    def _init_progress(self, trainer: Any) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = True

    @property
    def validation_description(self) -> str:
        return "validation"

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.lightning_module.epochs()  # type: ignore[operator]  # a Task
        return f"epoch {current_epoch + 1}{f'/{total}' if total else ''}".ljust(len(self.validation_description))

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """The loss alone: scores are in the lines of the epochs."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name == "loss"}
