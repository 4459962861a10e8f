"""A batch from its start to its page, or from where an earlier start of the same command was stopped."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dualvit.batch import plan as plans
from dualvit.batch.parts import Opener, PartMaker, is_whole
from dualvit.batch.plan import PARTS, Model, Plan, Settings
from dualvit.batch.results import Counts, join, require_format
from dualvit.batch.sources import Source
from dualvit.command import command_line
from dualvit.deploy.digest import digest_of
from dualvit.errors import MissingExtraError
from dualvit.files import cannot, write_json
from dualvit.locks import only_writer
from dualvit.provenance import environment

RESULTS = "batch.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Done:
    """A batch that is complete.

    Attributes:
        plan: What it was.
        counts: What is in its rows.
        file: All rows.
        notes: What a user should know of the list.
        made, parts: Parts that this start has made, of how many.
        seconds: Of this start.
    """

    plan: Plan
    counts: Counts
    file: Path
    notes: tuple[str, ...]
    made: int
    parts: int
    seconds: float

    def __str__(self) -> str:
        """Say how many pictures have an answer, and why the others have none."""
        counts = self.counts
        reasons = ", ".join(f"{name} {count}" for name, count in counts.reasons.most_common())
        return f"{counts.images} pictures: {counts.answered} answered" + (
            f", {counts.reasons.total()} without an answer ({reasons})" if reasons else ""
        )


def run(
    folder: Path, settings: Settings, opener: Opener, form: str = "parquet", workers: int | None = None,
    address: str | None = None, progress: Progress = lambda done, total: None,
) -> Done:  # fmt: skip
    """Ask a model about all pictures of a place; a start after a kill goes on with the parts that are not there.

    Args:
        folder: Takes all files.
        settings: What decides the rows.
        opener: Opens the model: `dualvit.deploy.predictor.open_predictor`.
        form: parquet or coco.
        workers: Of Ray; 0 works in this process, without Ray; None starts a worker per four cores.
        address: Of a Ray cluster; None is this machine.
        progress: Is told how many pictures are done, of how many.

    Raises:
        FileNotFoundError: there are no pictures, or no model.
        ValueError: a setting cannot be used, or differs from those that the folder was begun with.
        RuntimeError: another command is at work in the folder, or the workers failed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("dualvit batch needs pyarrow; install dualvit[batch]")
    settings.check()
    begin = time.monotonic()
    digest = digest_of(settings.model, settings.weights)
    known = plans.load(folder)
    if known:  # before the model is opened, which takes longer
        plans.require_same(folder, known, settings, digest)
        require_format(form, known.model.task)
    with only_writer(folder, "dualvit batch"):
        plan, notes = _planned(folder, settings, digest, opener, form)
        try:
            (folder / PARTS).mkdir(exist_ok=True)
            for left in (folder / PARTS).glob(".*"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise cannot("write to", folder / PARTS, error) from None
        missing = [part for part in range(plan.parts) if not is_whole(folder, plan, part)]
        done = plan.images - sum(len(plan.numbers(part)) for part in missing)
        progress(done, plan.images)
        for count in _made(folder, plan, missing, opener, workers, address):
            done += count
            progress(done, plan.images)
        file, counts = join(folder, plan, form)
        ended = Done(plan, counts, file, notes, len(missing), plan.parts, time.monotonic() - begin)
        _write(folder, ended)
    return ended


def _planned(folder: Path, settings: Settings, digest: str, opener: Opener, form: str) -> tuple[Plan, tuple[str, ...]]:
    """The plan of the folder, or a new one; and notes."""
    source = Source(settings.source)
    plan = plans.load(folder)
    if plan is None:
        source.require()
        predictor = opener(
            settings.model, runtime=settings.runtime, weights=settings.weights, image_size=settings.image_size
        )
        model = Model(
            digest, predictor.task, tuple(predictor.classes), predictor.runtime, predictor.precision
        )  # fmt: skip
        require_format(form, model.task)
        return (plan := plans.make(folder, settings, model, source)), plan.notes
    plans.require_same(folder, plan, settings, digest)
    new = plans.appeared(folder, plan, source)
    note = f"{new} pictures were not there when the list was made ({plan.date}) and have no row; give another --out"
    return plan, (*plan.notes, note) if new else plan.notes


def _made(
    folder: Path, plan: Plan, missing: Sequence[int], opener: Opener, workers: int | None, address: str | None
) -> Iterator[int]:  # fmt: skip
    if not missing:
        return
    if workers == 0:
        maker = PartMaker(folder, plan.key, opener)
        yield from map(maker.make, missing)
        return
    from dualvit.batch.cluster import made

    yield from made(folder, plan, missing, opener, workers, address)


def _write(folder: Path, done: Done) -> None:
    from dualvit.batch.page import page

    about: dict[str, Any] = {
        "command": command_line(),
        "settings": vars(done.plan.settings),
        "model": vars(done.plan.model),
    }
    about |= {"counts": done.counts.plain(), "parts": done.parts, "made": done.made, "seconds": round(done.seconds, 2)}
    about |= {"notes": done.notes, "environment": environment(cuda=False)}
    write_json(folder / RESULTS, about)
    page(folder, done, about["environment"]).write(folder)
