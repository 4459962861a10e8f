"""What an experiment's folder stores, typed; a file that says something else is one line."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dualvit.bench.results import Latency
from dualvit.errors import InputError
from dualvit.files import cannot
from dualvit.report.predictions import STORED, Count, Share

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Row = Annotated[dict[str, FiniteFloat | None], Field(min_length=1)]  # of an epoch; NaN is written as null
Kind = TypeVar("Kind")


@dataclass(frozen=True, config=STORED, kw_only=True)
class Machine:
    """Where a figure comes from."""

    versions: dict[str, str]
    commit: str | None
    date: str
    hardware: str
    threads: Count


@dataclass(frozen=True, config=STORED, kw_only=True)
class Result(Machine):
    """`result.json`: a finished cell.

    Attributes:
        label, name, options, seed: Of the cell.
        metric: The name of the score that `last` and `best` are.
        epochs: A row per validation: its number, scores, and seconds of training until then.
        seconds: Of training.
        peak_memory: Bytes.
        skipped: What could not be read and was left out, a line each.
        digests: Of the weights at the end, and of the first batch; empty for a cell that was stopped before.
        score: The split that `last` is of; `best` and `epochs` are of val.
        coco: COCO's AP of the same predictions, of YOLO; empty where it was not computed.
    """

    label: str
    name: str
    options: dict[str, Any]
    seed: Count
    metric: str
    last: Share
    best: Share
    best_epoch: Count
    epochs: Annotated[list[Row], Field(min_length=1)]
    seconds: Positive
    peak_memory: Count
    skipped: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    score: str = "val"
    coco: dict[str, Share] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return what the cell came to, in a line."""
        return f"{self.label} seed {self.seed}: {self.metric} {100 * self.last:.1f} after {len(self.epochs)} epochs"


@dataclass(frozen=True, config=STORED)
class Ends:
    """A model's latency in the first and in the last minute of a sustained run."""

    first: Latency
    last: Latency


@dataclass(frozen=True, config=STORED)
class Timed:
    """A model in one runtime: its latency, the milliseconds of each round, and the ends of a sustained run."""

    latency: Latency
    rounds: list[Positive]
    ends: Ends | None = None


@dataclass(frozen=True, config=STORED)
class Cost:
    """What one model costs.

    Attributes:
        parameters: How many.
        macs: Multiply-adds of one picture.
        latency: Of one picture in eager, after `fuse`.
        runtimes: Eager, onnxruntime and openvino, as far as they were measured.
        weights: The cell whose weights ran; empty for fresh ones.
    """

    parameters: Count
    macs: Positive
    latency: Latency
    runtimes: dict[str, Timed] = field(default_factory=dict)
    weights: str = ""

    def __str__(self) -> str:
        """Return the three in a line."""
        return f"{count(self.parameters)} parameters, {count(self.macs)} MACs, {self.latency.median:.1f} ms"


@dataclass(frozen=True, config=STORED, kw_only=True)
class Costs(Machine):
    """`cost.json`: what the models of an experiment cost, measured in one run.

    Attributes:
        models: By label.
        cuda: Whether on a GPU.
        runtimes: Those that were tried.
        notes: What was left out or does not agree, a line each.
        sustained: Seconds of the sustained run; None without one.
    """

    models: dict[str, Cost]
    cuda: bool
    runtimes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sustained: Positive | None = None


@dataclass(frozen=True, config=STORED)
class Kept:
    """`experiment.json`: the settings that the results beside it were made with."""

    settings: dict[str, Any]
    models: dict[str, dict[str, Any]]


@dataclass(frozen=True, config=STORED)
class Progress:
    """`progress.json`: how far a cell is."""

    epochs: list[Row] = field(default_factory=list)
    progress: Share = 0.0
    seconds: Positive = 0.0


def require_different_seeds(results: Sequence[Result]) -> None:
    """Check that a model's seeds trained it in different ways: equal ones would pass for certainty.

    Raises:
        ValueError: two of its cells ended in the same weights, or began with the same pictures.
    """
    known: dict[tuple[str, str, str], Result] = {}
    for result in results:
        for what, value in result.digests.items():
            other = known.setdefault((result.label, what, value), result) if value else result
            if other is not result:
                words = "ended in the same weights" if what == "weights" else "began with the same batch"
                raise InputError(
                    f"{result.label}: seeds {other.seed} and {result.seed} {words}, so they say nothing of chance; "
                    "give augmentation or workers: 0, or one seed"
                )


def count(number: float) -> str:
    """Return a large number in three figures.

    Example:
        >>> count(3_155_600), count(98_300_000), count(5.4e9)
        ('3.16 M', '98.3 M', '5.40 G')
    """
    value, unit = (number / 1e9, "G") if number >= 1e9 else (number / 1e6, "M")
    return f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f} {unit}"


def read(kind: type[Kind], path: Path, remedy: str = "delete it, and run the command again") -> Kind | None:
    """Read the content of a JSON file of this kind; None if there is no such file.

    Raises:
        ValueError: it holds something else; one line with the file, the place and the remedy.
        OSError: it cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, MemoryError) as error:
        raise cannot("read", path, error) from None
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        words = f"{place}: {first['msg'].lower()}" if place else first["msg"].lower()
        raise InputError(f"{path} is not what dualvit compare wrote ({words[:160]}); {remedy}") from None
