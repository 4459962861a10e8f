"""Each model's own learning rate: rates a factor of two apart, tried on a part of the training pictures.

    models x rates --a share of the budget, one seed--> scores on the held-out training pictures --> a rate per model

The validation pictures have no part in it. While a model's best rate stands at an end, one more is tried there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from dualvit.compare.engine import DataSet, engine
from dualvit.compare.experiment import Entry, Experiment
from dualvit.compare.results import Result
from dualvit.data import parts
from dualvit.data.yolo_layout import read_pairs
from dualvit.errors import InputError, StateError
from dualvit.files import write_atomic

FOLDER = "sweep"  # of the experiment's output
LEARNED = 0.01  # score below which a choice among rates is chance
# Trains what an experiment says; returns a result, or the line of what went wrong, for each label.
Train = Callable[[Experiment, DataSet], Mapping[str, Result | str]]


@dataclass(frozen=True)
class Swept:
    """What was tried for a model.

    Attributes:
        label: Of the model.
        rate: The chosen one.
        scores: For each rate, the score on the held-out training pictures.
        failed: For each rate without a score, why.
        seconds: Of training.
        constant: What one answer for everything scores on the same pictures.
        most: Rates that might be tried.
    """

    label: str
    rate: float
    scores: dict[str, float]
    failed: dict[str, str]
    seconds: float
    constant: float = 0.0
    most: int | None = None

    def __str__(self) -> str:
        """Return the rates with their scores in a line."""
        tried = [f"{rate} {100 * score:.1f}" for rate, score in self.scores.items()]
        tried += [f"{rate} failed" for rate in self.failed]
        return f"{self.label}: rate {self.rate:g} of {', '.join(tried)}"

    def doubt(self) -> str:
        """Return a sentence if the model had learned nothing at any rate, or if the best one is the last; else none."""
        best, rates = max(self.scores.values()), sorted(map(float, (*self.scores, *self.failed)))
        if best < self.constant + LEARNED:
            plain = f", and one answer for everything {100 * self.constant:.1f}" if self.constant else ""
            return (
                f"{self.label} learned nothing at any rate of the sweep (best {100 * best:.1f}{plain}), so its rate is "
                "chance; give the sweep a larger budget, or this row its own rate in settings."
            )
        place = {rates[0]: "lowest", rates[-1]: "highest"}.get(float(f"{self.rate:g}"))
        if place is None or self.most is None or len(rates) < self.most:
            return ""
        return (
            f"{self.label} is best at the {place} of its {len(rates)} rates, and one beyond may be better: give other "
            "sweep.rates, or a larger sweep.most."
        )


def held_out(experiment: Experiment, data: DataSet) -> DataSet:
    """Return the training pictures as a data set of its own, of which a part validates.

    Raises:
        ValueError: there are too few.
    """
    assert experiment.sweep is not None
    every, path = experiment.sweep.every, data.path
    if experiment.engine == "yolo":
        path = str(write_part(Path(data.path), every, experiment.output / FOLDER / "data"))
    stage = trials(experiment, {experiment.models[0].label: [1.0]})
    reader = engine(stage, stage.models[0], path)
    try:
        return DataSet(path, *reader.counts(), constant=reader.constant("val"))
    except InputError as error:
        if experiment.engine == "recipe":
            raise
        raise InputError(
            f"the sweep holds out one of {every} training pictures, and these do: {error}; or give another sweep.every"
        ) from None


def write_part(data: Path, every: int, folder: Path) -> Path:
    """Write a data.yaml whose validation pictures are each `every`-th of the training pictures of another one."""
    names, pairs = read_pairs(data, "train")
    files = [str(picture.absolute()) for picture, _ in pairs]
    return write_lists({split: parts.held_out(files, every, split) for split in ("train", "val")}, names, folder)


def write_lists(files: Mapping[str, Sequence[str]], names: Sequence[str], folder: Path) -> Path:
    """Write a data.yaml with a list of pictures for train and for val."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, listed in files.items():
        write_atomic(folder / f"{split}.txt", "\n".join(listed) + "\n")
    content = {"path": str(folder.absolute()), "train": "train.txt", "val": "val.txt", "names": dict(enumerate(names))}
    write_atomic(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False))
    return folder / "data.yaml"


def trials(experiment: Experiment, rates: Mapping[str, list[float]]) -> Experiment:
    """Return the experiment that tries these rates of these models."""
    assert experiment.sweep is not None
    models = tuple(
        Entry(entry.name, f"{entry.label} at {rate:g}", entry.options,
              {**entry.settings, experiment.rate_name: rate})
        for entry in experiment.models for rate in rates.get(entry.label, [])
    )  # fmt: skip
    share = experiment.sweep.budget
    held = {"data.hold_out": experiment.sweep.every} if experiment.engine == "recipe" else {}
    return replace(
        experiment, models=models, settings={**experiment.settings, **held}, output=experiment.output / FOLDER,
        epochs=experiment.epochs and max(1, round(share * experiment.epochs)),
        minutes=experiment.minutes and share * experiment.minutes,
        seeds=experiment.seeds[:1], reference=None, sweep=None, null_row=None,
        score="val",
    )  # fmt: skip


def choose(experiment: Experiment, data: DataSet, train: Train) -> list[Swept]:
    """Try rates of all models that have none of their own.

    Args:
        experiment: With a `sweep`.
        data: The training pictures, of which a part validates.
        train: Trains the cells of an experiment.

    Raises:
        RuntimeError: no rate of a model could be trained.
    """
    assert experiment.sweep is not None
    own = {entry.label: own_rate(experiment, entry) for entry in experiment.models}
    rates = {label: list(experiment.sweep.first(rate)) for label, rate in own.items() if rate is not None}
    tried: dict[str, dict[float, Result | str]] = {label: {} for label in rates}
    todo = rates
    while todo:
        found = train(trials(experiment, todo), data)
        for label, these in todo.items():
            tried[label] |= {rate: found[f"{label} at {rate:g}"] for rate in these}
        todo = {label: more for label, known in tried.items() if (more := beyond(known, experiment.sweep.most))}
    return [_swept(label, known, data.constant, experiment.sweep.most) for label, known in tried.items()]


def own_rate(experiment: Experiment, entry: Entry) -> float | None:
    """Return the rate about which a model's rates lie; None if the model brings its own, or its optimizer does."""
    settings = {**experiment.settings, **entry.settings}
    if experiment.rate_name in entry.settings or settings.get("optimizer") == "auto":
        return None
    training = experiment.training(entry)
    return float(training["lr0"] if experiment.engine == "yolo" else training.get("optimizer", {}).get("lr", 1e-3))


def beyond(known: Mapping[float, Result | str], most: int) -> list[float]:
    """Return the rate to try next if the best one stands at an end; nothing if enough were tried.

    Example:
        >>> def result(score): return type("", (Result,), {"__init__": lambda s: s.__dict__.update(last=score)})()
        >>> beyond({1.0: result(0.3), 2.0: result(0.2), 4.0: result(0.1)}, 10)
        [0.5]
    """
    scores = {rate: one.last for rate, one in known.items() if isinstance(one, Result)}
    if not scores or len(known) >= most:
        return []
    best, tried = best_of(scores), sorted(known)
    if best == tried[0]:
        return [_rounded(tried[0] * tried[0] / tried[1])]
    return [_rounded(tried[-1] * tried[-1] / tried[-2])] if best == tried[-1] else []


def best_of(scores: Mapping[float, float]) -> float:
    """Return the rate with the highest score; of several, the middle one.

    Example:
        >>> best_of({1.0: 0.3, 2.0: 0.5, 4.0: 0.5, 8.0: 0.5})
        4.0
    """
    best = max(scores.values())
    equal = sorted(rate for rate, score in scores.items() if score == best)
    return equal[(len(equal) - 1) // 2]


def _rounded(rate: float) -> float:
    """A rate without the noise of its last bits, which would change its name."""
    return round(rate, 8 - math.floor(math.log10(rate)))


def _swept(label: str, known: Mapping[float, Result | str], constant: float, most: int) -> Swept:
    tried = {rate: known[rate] for rate in sorted(known)}
    scores = {rate: one.last for rate, one in tried.items() if isinstance(one, Result)}
    failed = {f"{rate:g}": one for rate, one in tried.items() if not isinstance(one, Result)}
    if not scores:
        first = next(iter(failed.values()))
        raise StateError(f"{label}: none of its {len(tried)} learning rates could be trained: {first}")
    seconds = sum(one.seconds for one in tried.values() if isinstance(one, Result))
    by_name = {f"{rate:g}": score for rate, score in scores.items()}
    return Swept(label, best_of(scores), by_name, failed, seconds, constant, most)


def at_chosen_rates(experiment: Experiment, chosen: list[Swept]) -> Experiment:
    """Return the experiment with each model at its rate."""
    rates = {one.label: {experiment.rate_name: one.rate} for one in chosen}
    models = tuple(
        replace(entry, settings={**entry.settings, **rates.get(entry.label, {})}) for entry in experiment.models
    )
    return replace(experiment, models=models)
