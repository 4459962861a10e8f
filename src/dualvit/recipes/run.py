"""Fit, validate, predict and export: a recipe, its data and its task put together."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import safetensors.torch
import torch

from dualvit.data.listing import image_files, why_unreadable
from dualvit.errors import InputError, line_of
from dualvit.files import cannot, write_atomic, write_json
from dualvit.locks import only_writer
from dualvit.meta import on_meta
from dualvit.models import create_model
from dualvit.progress import Listener
from dualvit.provenance import environment
from dualvit.recipes.checkpoints import latest, read_task_checkpoint, require_same_run
from dualvit.recipes.checks import require_files
from dualvit.recipes.config import Recipe, apply, kind, of_its_task, plain
from dualvit.recipes.config import load_recipe as load_recipe
from dualvit.recipes.content import require_own_data, stored_recipe, to_store, weights_of
from dualvit.recipes.loading import TaskData
from dualvit.recipes.progress import clock
from dualvit.recipes.task import Task
from dualvit.recipes.trainer import make_trainer, quiet
from dualvit.seeds import seed_all
from dualvit.stored import StoredError, check_shapes, filled_by
from dualvit.weights.match import in_full_names


def fit(recipe: Recipe, out: Path, listener: Listener | None = None) -> Task:
    """Train, or continue from the folder's last checkpoint.

    `out` takes `last.ckpt` and `best.ckpt` after each epoch, `logs`, `unreadable.txt`, and `results.json` in the end.
    A `listener` is told the share that is done, the seconds so far, and the epochs once one is on disk.

    Raises:
        ValueError: `out` holds a run of other settings or classes; or none of the images to train on, or to validate
            on, can be read; or no epoch has a score that is a number.
        OSError: `out` cannot be written, or its checkpoint cannot be read for another reason than damage.
        RuntimeError: another command is at work in `out`.
        KeyboardInterrupt: the user stopped it.
    """
    _require_writable(out)
    with quiet(), one_line():
        task, data = prepare(recipe, out)
        trainer = make_trainer(recipe, out, task.metric, listener)
        # Of all processes the first one writes, and holds the folder for the others.
        with only_writer(out, "dualvit recipe fit") if trainer.is_global_zero else nullcontext():
            _fit(trainer, task, data, out)
    return task


def _fit(trainer: lightning.Trainer, task: Task, data: TaskData, out: Path) -> None:
    resume = latest(out, trainer.is_global_zero)
    if trainer.is_global_zero:
        for note in data.notes:
            print(f"note: {note}", flush=True)
    if resume is not None:
        require_same_run(task.recipe, data.classes, resume)
        if trainer.is_global_zero:
            print(f"continues from {resume}", flush=True)
    elif trainer.is_global_zero:
        data.skipped.clear()
    for logger in trainer.loggers:
        logger.log_hyperparams(plain(task.recipe))
    try:
        trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    except Exception as error:
        if resume is None or task.begun or not (isinstance(error, StoredError) or _of_libraries(error)):
            raise
        line = line_of(error, 160)
        raise InputError(
            f"cannot go on from {resume} ({line}); move it away and begin anew, or give another --out"
        ) from None
    if trainer.is_global_zero:
        write_json(out / "results.json", results(task, data))
        if count := len(data.skipped.lines()):
            print(f"skipped {count} that could not be used: {data.skipped.file}", flush=True)
    if task.history and best_row(task) is None:
        raise InputError(f"{task.metric} is no number in any epoch; give validation data with every class")


def _of_libraries(error: BaseException) -> bool:
    """Whether torch or Lightning raised an error, which then speaks of its arguments and not of the user's settings."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_globals.get("__name__", "").startswith(("torch", "lightning"))


def results(task: Task, data: TaskData) -> dict[str, Any]:
    """What a run came to: settings, where it ran, what was said of its data, the best epoch, and all epochs."""
    return {
        "recipe": plain(task.recipe),
        "environment": environment(task.device.type == "cuda"),
        "seconds": round(clock(task.trainer).time_elapsed(), 1),
        "notes": list(data.notes),
        "skipped": data.skipped.lines(),
        "best": best_row(task),
        "history": task.history,
    }


def best_row(task: Task) -> dict[str, float] | None:
    """The epoch in which the task's metric was highest; NaN is none."""
    rows = [row for row in task.history if row[task.metric] == row[task.metric]]
    return max(rows, key=lambda row: row[task.metric], default=None)


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise cannot("write to", out, error) from None


@contextmanager
def one_line() -> Iterator[None]:
    """An error in a worker process of a loader, without the traceback that torch puts into its message; and Ctrl-C."""
    try:
        yield
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except Exception as error:
        text = str(error)
        if "Original Traceback" not in text:
            raise
        raise InputError(text.strip().splitlines()[-1].partition(": ")[2]) from None


def prepare(recipe: Recipe, out: Path | None) -> tuple[Task, TaskData]:
    """A recipe's task with new weights, and its data."""
    require_files(recipe)
    recipe = recipe.completed()
    to_store(recipe)  # what could not be opened again is not trained
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
    values = stored_recipe(content["dualvit"])
    try:
        of_its_task(values)
    except ValueError as error:
        raise InputError(f"{checkpoint} was not opened: {error}; name a checkpoint of `dualvit recipe fit`") from None
    for change in changes:
        apply(values, change)
    recipe, classes = of_its_task(values), tuple(content["dualvit"]["classes"])
    task_type: Callable[[Recipe, tuple[str, ...]], Task] = kind(recipe.task).TaskType
    try:
        weights = weights_of(content)
        with filled_by(weights):
            check_shapes(task_type(recipe, classes), weights)
        task = task_type(recipe, classes)
        task.load_state_dict(content["state_dict"])
    except Exception as error:  # of a network that does not take its settings or weights
        line = line_of(error, 240)
        raise InputError(f"{checkpoint} holds weights of another network than {recipe.network.name}: {line}") from None
    return task.eval()


def validate(checkpoint: Path, changes: Iterable[str] = ()) -> dict[str, float]:
    """The scores of a checkpoint on its validation data, or on what `data.root=` names.

    Raises:
        ValueError: none of the images can be read; or the checkpoint alone names shards or data on another machine,
            which are not opened.
    """
    task = load(checkpoint, changes)
    require_own_data(task.recipe, changes, checkpoint)
    with quiet(), one_line(), tempfile.TemporaryDirectory() as folder:
        data = kind(task.recipe.task).DataType(task.recipe, Path(folder))
        if data.classes != task.classes:
            raise InputError(
                f"{task.recipe.data.root} has classes {', '.join(data.classes[:5])}, ... and {checkpoint} "
                f"{', '.join(task.classes[:5])}, ...; give the data set that it was trained for"
            )
        for note in data.notes:
            print(f"note: {note}", flush=True)
        scores = make_trainer(task.recipe, None).validate(task, data, verbose=False)[0]
        for line in data.skipped.lines():
            print(f"skipped {line}", flush=True)
    return {name: float(value) for name, value in scores.items()}


def predict(checkpoint: Path, paths: Iterable[Path], out: Path, changes: Iterable[str] = ()) -> Iterator[str]:
    """What a checkpoint says of images, to files in `out`; yields a line for each image, and for each that is skipped.

    No file in `out` is overwritten. What a second run writes there has a number in its names.

    Args:
        checkpoint: Of a run.
        paths: Images, or folders of images.
        out: A folder; it is made.
        changes: Settings, such as data.image_size=384.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: none of the images can be read.
        RuntimeError: another command is at work in `out`.
    """
    notes: list[str] = []
    task, files = load(checkpoint, changes), image_files(paths, out, notes)
    yield from notes
    with only_writer(out, "dualvit recipe predict"):
        yield from _predict(task, files, out)


def _predict(task: Task, files: list[Path], out: Path) -> Iterator[str]:
    reasons = {file: why_unreadable(file) for file in files}
    good = [file for file, reason in reasons.items() if reason is None]
    for reason in filter(None, reasons.values()):
        yield f"skipped: {reason}"
    if not good:
        raise InputError(f"none of the {len(files)} images can be read")
    with torch.inference_mode():
        yield from task.predict(good, out)


def export(checkpoint: Path, target: Path) -> tuple[int, tuple[str, ...], dict[str, Any]]:
    """Write a checkpoint's backbone as safetensors, in the names of timm's full network.

    Returns:
        How many entries are in the file; which of the full network's are not, since a detector's or a segmenter's
        backbone does not have them; and the options that build the network. A file that lacks none loads as
        `timm.create_model(name, checkpoint_path=target, **options)`; every file, as `weights=target` of YOLO.

    Raises:
        ValueError: the target does not end in .safetensors.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"cannot write {target}: the output is safetensors; end its name in .safetensors")
    _require_writable(target.parent)
    task = load(checkpoint)
    network, own = task.recipe.network, task.backbone()
    classes = getattr(own, "num_classes", 0)
    with on_meta():
        options = {**network.options, "num_classes": classes}
        full = create_model(network.name, **options)
    state = in_full_names(own, full)
    missing = tuple(name for name in full.state_dict() if name not in state)
    metadata = {"format": "pt", "architecture": network.name, "num_classes": str(classes), "source": str(checkpoint)}
    write_atomic(target, safetensors.torch.save(state, metadata))
    return len(state), missing, options
