"""What an experiment's folder stores, read as data: a file that says something else is one line, and trains nothing."""

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it below Python 3.12

from dualvit.files import cannot

OPEN = ConfigDict(extra="allow", strict=True)  # further keys may come with other versions
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0)]
Row = Annotated[dict[str, FiniteFloat | None], Field(min_length=1)]  # of an epoch; NaN is written as null


class Machine(TypedDict):
    """Where a figure comes from."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    versions: dict[str, str]
    commit: str | None
    date: str
    hardware: str
    threads: Whole


class Result(Machine):
    """`result.json`: a finished cell."""

    label: str
    name: str
    options: dict[str, Any]
    seed: Whole
    metric: str
    last: Share
    best: Share
    best_epoch: Whole
    epochs: Annotated[list[Row], Field(min_length=1)]
    seconds: Positive
    peak_memory: Whole


class Latency(TypedDict):
    """Of one picture, in milliseconds."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    median: Positive
    low: Positive
    high: Positive


class ModelCost(TypedDict):
    """Of one model."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    parameters: Whole
    macs: Positive
    latency: Latency


class Cost(Machine):
    """`cost.json`: what the models of an experiment cost, measured in one run."""

    models: dict[str, ModelCost]
    cuda: bool


class Kept(TypedDict):
    """`experiment.json`: the settings that the results beside it were made with."""

    settings: dict[str, Any]
    models: dict[str, dict[str, Any]]


class Progress(TypedDict):
    """`progress.json`: how far a cell is."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    epochs: list[Row]
    progress: Share
    seconds: NotRequired[Positive]


def read(kind: type, path: Path, remedy: str = "delete it, and run the command again") -> Any:
    """The content of a JSON file of this kind; None if there is no such file.

    Raises:
        ValueError: it holds something else; one line with the file, the place and the remedy.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, MemoryError) as error:
        raise cannot("read", path, error) from None
    except ValueError:
        raise ValueError(f"{path} is damaged: it is no text; {remedy}") from None
    try:
        return TypeAdapter(kind).validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        words = f"{place}: {first['msg'].lower()}" if place else first["msg"].lower()
        raise ValueError(f"{path} is not what dualvit compare wrote ({words[:160]}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:80]
        raise ValueError(f"{path} is damaged: it is no JSON ({line}); {remedy}") from None
