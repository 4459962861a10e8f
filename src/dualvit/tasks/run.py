"""Fit, validate and predict: a recipe, its data and its task put together, on Lightning's Trainer."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from dualvit.files import write_json
from dualvit.names import unknown_name
from dualvit.tasks.config import Recipe, apply, plain, read, typed
from dualvit.tasks.loading import TaskData, seed_all
from dualvit.tasks.task import Task

TASKS = ("classify", "detect", "semantic")
OURS = ("callbacks", "logger", "max_epochs", "max_steps", "gradient_clip_val", "use_distributed_sampler")


def kind(task: Any) -> ModuleType:
    """The package of a task: RecipeType, DataType, TaskType."""
    if task not in TASKS:
        raise ValueError(f"{unknown_name('task', str(task), TASKS)}; give {', '.join(TASKS)}")
    return importlib.import_module(f"dualvit.tasks.{task}")


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """A recipe by its name or file, with changes such as `data.root=folder`."""
    return _typed(read(name, changes))


def _typed(values: Mapping[str, Any]) -> Recipe:
    recipe: Recipe = typed(kind(values.get("task")).RecipeType, values)
    return recipe


def fit(recipe: Recipe, out: Path) -> Task:
    """Train, or continue from `out/last.ckpt`; `out` takes checkpoints, metrics.csv and results.json.

    Raises:
        ValueError: `out` holds a run of other settings.
    """
    last = out / "last.ckpt"
    resume = last if last.exists() else None
    if resume is not None:
        _same_run(recipe, resume)
    task, data = prepare(recipe, out)
    trainer = make_trainer(recipe, out)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    if trainer.is_global_zero:
        rows = task.history
        best = max(rows, key=lambda row: row[task.metric]) if rows else None
        write_json(out / "results.json", {"recipe": plain(recipe), "best": best, "history": rows})
    return task


def prepare(recipe: Recipe, out: Path | None) -> tuple[Task, TaskData]:
    """A recipe's task with new weights, and its data."""
    if not recipe.data.root:
        raise ValueError("data.root is missing; name the data set: data.root=folder")
    seed_all(str(recipe.seed))
    there = kind(recipe.task)
    data = there.DataType(recipe, out)
    return there.TaskType(recipe, data.classes), data


def load(checkpoint: Path, changes: Iterable[str] = ()) -> Task:
    """The task in a checkpoint, with its weights and as its recipe says.

    Raises:
        ValueError: the file is no checkpoint of a recipe, or does not fit.
    """
    content = read_task_checkpoint(checkpoint)
    values = content["dualvit"]["recipe"]
    values["network"]["checkpoint"] = None  # these weights replace it
    for change in changes:
        apply(values, change)
    recipe = _typed(values)
    task: Task = kind(recipe.task).TaskType(recipe, tuple(content["dualvit"]["classes"]))
    try:
        task.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        line = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"{checkpoint} holds weights of another network than {recipe.network.name}: {line}") from None
    return task.eval()


def read_task_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint that `fit` wrote; no pickled code is run."""
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}; name a run's best.ckpt or last.ckpt")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is damaged
        raise ValueError(f"{checkpoint} cannot be read: {error}") from None
    if not isinstance(content, dict) or "dualvit" not in content:
        raise ValueError(f"{checkpoint} is no checkpoint of a recipe; `dualvit recipe fit` writes them")
    return content


def validate(checkpoint: Path, changes: Iterable[str] = ()) -> dict[str, float]:
    """The scores of a checkpoint on its validation data, or on what `data.root=` names."""
    task = load(checkpoint, changes)
    data = kind(task.recipe.task).DataType(task.recipe, None)
    if data.classes != task.classes:
        raise ValueError(
            f"{task.recipe.data.root} has classes {', '.join(data.classes[:5])}, ... and {checkpoint} "
            f"{', '.join(task.classes[:5])}, ...; give the data set that it was trained for"
        )
    trainer = make_trainer(task.recipe, None)
    return {name: float(value) for name, value in trainer.validate(task, data, verbose=False)[0].items()}


def make_trainer(recipe: Recipe, out: Path | None) -> lightning.Trainer:
    """Lightning's Trainer: the recipe's own arguments, and checkpoints and metrics in `out`.

    Raises:
        ValueError: an argument that Trainer does not have, or that the recipe decides elsewhere.
    """
    known = [name for name in inspect.signature(lightning.Trainer.__init__).parameters if name not in ("self", *OURS)]
    for name in recipe.trainer:
        if name not in known:
            raise ValueError(f"{unknown_name('setting', f'trainer.{name}', [f'trainer.{k}' for k in known])}")
    schedule = recipe.schedule
    callbacks: list[Callback] = []
    if out is not None:
        callbacks.append(
            ModelCheckpoint(
                out,
                filename="best",
                monitor=kind(recipe.task).TaskType.metric,
                mode="max",
                save_last=True,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    if recipe.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=recipe.ema))
    arguments: dict[str, Any] = {"enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 10}
    return lightning.Trainer(
        **arguments | dict(recipe.trainer),
        max_epochs=(schedule.epochs + schedule.cooldown_epochs) if schedule.epochs else -1,
        max_steps=schedule.steps or -1,
        gradient_clip_val=recipe.optimizer.clip or None,
        callbacks=callbacks,
        logger=CSVLogger(out, name="", version="") if out else False,
        use_distributed_sampler=False,
    )


def _same_run(recipe: Recipe, last: Path) -> None:
    """A run goes on with the settings that it began with; where and on what it runs may change."""
    before, now = read_task_checkpoint(last)["dualvit"]["recipe"], plain(recipe)
    for values in (before, now):
        values.pop("trainer")
        for name in ("root", "workers", "unreadable"):
            values["data"].pop(name)
    changed = [
        f"{section}.{name}" if isinstance(value, dict) else section
        for section, value in now.items()
        for name in (value if isinstance(value, dict) else [section])
        if (value[name] != before[section].get(name) if isinstance(value, dict) else value != before.get(section))
    ]
    if changed:
        raise ValueError(f"{last.parent} holds a run with another {changed[0]}; give another --out, or that setting")
