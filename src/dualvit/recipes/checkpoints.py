"""Checkpoints of runs: read without running code, written whole or not at all, and continued by the same run alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from dualvit import archives
from dualvit.archives import DamagedError
from dualvit.errors import AccessError, InputError
from dualvit.files import atomic
from dualvit.recipes.checks import require_run_checkpoint
from dualvit.recipes.config import Recipe
from dualvit.recipes.content import check_run, check_states, to_store

# May differ in a run that continues: what it is called, and where and on what it runs.
FREE = ("title", "published", "trainer", "data.root", "data.workers", "data.unreadable")
ABSENT = "not given"


class WholeFiles(TorchCheckpointIO):
    """Writes beside the old checkpoint and then renames: Lightning's own copies over it, from another disk at worst.

    What it reads is checked before Lightning acts on it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic(path) as file:
                archives.save(checkpoint, file)
        except OSError as error:
            kept = "the previous one is whole; make room" if path.exists() else "make room"
            raise AccessError(
                f"cannot write {path}: {error.strerror or error}; {kept}, and the same command goes on"
            ) from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content: dict[str, Any] = archives.load(Path(path))
        check_states(content, str(path))
        return content


def keepers(folder: Path, metric: str) -> list[Callback]:
    """Callbacks that write `best.ckpt` and then `last.ckpt`, which knows the best score, after each epoch.

    They are two, since Lightning's `save_last` leaves the file as it is after an epoch that is not the best so far.
    """
    common: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, filename="best", monitor=metric, mode="max", **common)
    return [best, ModelCheckpoint(folder, filename="last", **common)]


def read_task_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint that `fit` wrote; no pickled code is run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no recipe's.
        OSError: it cannot be read for another reason.
    """
    require_run_checkpoint(checkpoint)
    content = archives.load(checkpoint)
    if not isinstance(content, dict) or "dualvit" not in content:
        raise InputError(f"{checkpoint} is no checkpoint of a recipe; `dualvit recipe fit` writes them")
    check_run(content, str(checkpoint))
    return content


def readable(checkpoint: Path, put_aside: bool = True) -> Path | None:
    """The checkpoint, or None where there is none; a damaged one is put aside, as NAME.damaged, in a line.

    Raises:
        OSError: it cannot be read for another reason, and stays where it is.
    """
    try:
        archives.load(checkpoint, mmap=True)
    except FileNotFoundError:
        return None
    except DamagedError:
        if put_aside:
            print(f"{checkpoint} is damaged, and is now {archives.set_aside(checkpoint)}", flush=True)
        return None
    return checkpoint


def latest(out: Path, first: bool) -> Path | None:
    """Where a run goes on: its last checkpoint, or its best one where the last is gone or damaged.

    Args:
        out: The run's folder.
        first: Whether this is the process that may put files aside; all of them find the same checkpoint.
    """
    return next((file for name in ("last", "best") if (file := readable(out / f"{name}.ckpt", first))), None)


def require_same_run(recipe: Recipe, classes: tuple[str, ...], checkpoint: Path) -> None:
    """A run goes on with the settings and classes that it began with; where and on what it runs may change.

    Raises:
        ValueError: one line with the first difference.
    """
    content = read_task_checkpoint(checkpoint)["dualvit"]
    remedy = f"give another --out, or go on with what {checkpoint} began with"
    before, now = content["recipe"], to_store(recipe)
    if before["task"] != now["task"]:  # whose settings are others throughout
        raise InputError(f"task was {before['task']} and is {now['task']}; {remedy}")
    for name, old, new in _differences(before, now):
        if not name.startswith(FREE):
            raise InputError(f"{name} was {old} and is {new}; {remedy}")
    if tuple(content["classes"]) != tuple(classes):
        first, second = (
            f"{len(names)} ({', '.join(names[:5])})" for names in (list(content["classes"]), list(classes))
        )
        raise InputError(f"the classes of {recipe.data.root} were {first} and are {second}; {remedy}")


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """The settings that differ, with both values as words; a mapping against none is one difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before | now):
            yield from _differences(before.get(key, ABSENT), now.get(key, ABSENT), f"{name}.{key}" if name else key)
    elif before != now:
        old, new = (ABSENT if value is ABSENT else repr(value) for value in (before, now))
        yield name, old, new
