"""Lightning's Trainer as recipes use it: checked arguments, whole checkpoints, loggers by name, and little to read."""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from rich.console import Console

from dualvit.errors import InputError
from dualvit.progress import Listener
from dualvit.recipes.checkpoints import WholeFiles, keepers
from dualvit.recipes.checks import require_logger, require_trainer
from dualvit.recipes.config import Recipe
from dualvit.recipes.progress import Bar, Clock, EpochLines

# True, and of no help to who trains: advice on workers, on intervals of logs, and what Lightning is about to change.
SILENT = (
    r".*does not have many workers which may be a bottleneck",
    r".*The number of training batches .* is smaller than the logging interval",
    r".*Checkpoint directory .* exists and is not empty",
    r".*recommended to use `.*sync_dist=True.*",
    r".*LeafSpec.*",
    r".*could not find the monitored key",  # in an epoch that is not validated; that none is, `Task` finds out
    r".*Found .* module\(s\) in eval mode at the start of training",
    r".*isinstance\(treespec",
    r".*Using `DistributedSampler` with the dataloaders",
    r".*lr_scheduler\.step\(\)",
)


def make_trainer(
    recipe: Recipe, out: Path | None, metric: str = "", listener: Listener | None = None
) -> lightning.Trainer:
    """Lightning's Trainer: the recipe's own arguments, and checkpoints and logs in `out`.

    Args:
        recipe: The settings.
        out: The folder of a training run; None validates, and writes nothing.
        metric: The score that the best checkpoint has most of.
        listener: Is told how far training is.

    Raises:
        ValueError: an argument that Trainer does not have, or that the recipe decides elsewhere.
    """
    asked = dict(recipe.trainer)
    require_trainer(recipe, list(inspect.signature(lightning.Trainer.__init__).parameters)[1:])
    schedule = recipe.schedule
    terminal = Console().is_terminal
    arguments: dict[str, Any] = {"enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 10}
    arguments |= {"enable_progress_bar": terminal, "logger": "csv"} | asked
    plugins: list[Any] = [WholeFiles()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning's own requeuing continues in mid-epoch, where the order of the data is not that of a straight run.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    try:
        return lightning.Trainer(
            **arguments | {"logger": make_logger(arguments["logger"], out) if out else False},
            default_root_dir=out,
            # Of a run by steps, Lightning would not know that a checkpoint at the end of an epoch has that epoch behind
            # it; an epoch has a step at least, and the task itself stops after the last one.
            max_epochs=-1 if schedule.minutes else schedule.steps or (schedule.epochs or 0) + schedule.cooldown_epochs,
            min_epochs=0,
            gradient_clip_val=recipe.optimizer.clip or None,
            callbacks=[
                *([Bar()] if arguments["enable_progress_bar"] else []),
                *(_callbacks(recipe, out, metric, listener) if out else []),
            ],
            plugins=plugins,
            use_distributed_sampler=False,
        )
    except TypeError as error:  # Lightning compares and counts before it looks at a value's kind
        said = ", ".join(f"trainer.{name}={value!r}" for name, value in asked.items())
        raise InputError(f"Lightning cannot take one of {said}: {error}") from None


def _callbacks(recipe: Recipe, out: Path, metric: str, listener: Listener | None) -> list[Callback]:
    average = [] if recipe.ema is None else [EMAWeightAveraging(decay=recipe.ema)]
    return [*average, EpochLines(), *keepers(out, metric), Clock(recipe.schedule.minutes, listener)]


def make_logger(name: Any, out: Path) -> Logger | bool:
    """One of Lightning's loggers, which writes to `out/logs`; false has none.

    Raises:
        ValueError: an unknown one, or one whose package is missing.
    """
    require_logger(name)
    if name is False:
        return False
    if name == "wandb":
        return WandbLogger(name=out.name, save_dir=out, project="dualvit")
    # A version for each start: what a stopped run logged stays.
    return (CSVLogger if name == "csv" else TensorBoardLogger)(out, name="logs")


@contextmanager
def quiet() -> Iterator[None]:
    """Let Lightning speak of what matters alone, a line each."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for pattern in SILENT:
                warnings.filterwarnings("ignore", pattern)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.showwarning = _show
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    Console(stderr=True).print(
        f"warning: {' '.join(str(message).split())}", markup=False, highlight=False, soft_wrap=True
    )
