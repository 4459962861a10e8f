"""What a run says while it trains: a line at its start, a line for each epoch, and on a terminal Lightning's bar."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.strategies import FSDPStrategy

COLOUR = "cyan"


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
        print(
            f"{network}{size}, {_counted(len(pl_module.classes), 'class', 'classes')}: "
            f"{_counted(pl_module.epochs(), 'epoch')} of {_counted(round(pl_module.steps_an_epoch()), 'step')} of "
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
            print(f"epoch {epoch}, step {step}  {values}  {time.monotonic() - self.started:.0f} s", flush=True)


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
        return f"epoch {current_epoch + 1}/{total}".ljust(len(self.validation_description))

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """The loss alone: scores are in the lines of the epochs."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name == "loss"}
