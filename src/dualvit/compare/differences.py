"""The pictures on which two models differ most: ranked, told in JSON, and handed to who draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dualvit.compare.engine import DataSet, engine
from dualvit.compare.experiment import Entry, Experiment
from dualvit.compare.predictions import base_of, read_predictions, relative
from dualvit.data.coco import Coco, Picture
from dualvit.errors import DualViTError, InputError
from dualvit.report.matching import MEASURES, Judged, Model, judged
from dualvit.report.predictions import Predictions, Shown

SHOWN = 12  # pictures


@dataclass(frozen=True)
class Difference:
    """A picture on which a model and the reference differ.

    Attributes:
        image_id, file: Which picture; the file from the data set's folder on.
        reference, other: The scores of both.
        counts: Of objects: hits, false and missed ones, of the reference and of the other.
    """

    image_id: int
    file: str
    reference: float
    other: float
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """The other model's score less the reference's."""
        return self.other - self.reference


@dataclass(frozen=True)
class Pair:
    """A model beside the reference.

    Attributes:
        other: Its label.
        confidence: The limits from which objects count, of the reference and of the other; none without objects.
        better, worse, equal: On how many pictures it is.
        pictures: Those of the largest difference, the largest first.
    """

    other: str
    confidence: Mapping[str, float]
    better: int
    worse: int
    equal: int
    pictures: Sequence[Difference]


@dataclass(frozen=True)
class Differences:
    """All pairs; `differences.json` is this, field by field.

    Attributes:
        reference: The label that others stand beside.
        seed: Of all cells.
        split: val or test.
        measure: What a picture's score is.
        pairs: The best model first; it is the one that is drawn.
        lines: What could not be used, a line each.
    """

    reference: str
    seed: int
    split: str
    measure: str
    pairs: Sequence[Pair]
    lines: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"version": 1, **asdict(self)}


@dataclass(frozen=True)
class Scene:
    """What there is to draw.

    Attributes:
        differences: Which pictures.
        predictions, models: What each model said, and how it is judged.
        truth: What the reader of the data set gives.
        places: Of detectors and segmenters, by the numbers of pictures: a `Picture`, or its index in `truth`.
        base: The folder that names of pictures begin at.
    """

    differences: Differences
    predictions: Mapping[str, Predictions]
    models: Mapping[str, Model]
    truth: Any
    places: Mapping[int, Any]
    base: Path

    @property
    def said(self) -> Predictions:
        """What the reference said."""
        return self.predictions[self.differences.reference]


def differences(
    experiment: Experiment, data: DataSet, reference: str, others: Sequence[str]
) -> tuple[Scene | None, list[str]]:
    """Rank the pictures on which each model and the reference differ, from the predictions of one seed.

    Args:
        experiment: Whose cells are read.
        data: Its data set.
        reference: The label that others stand beside.
        others: Labels, the best model first.

    Returns:
        What there is to draw, or None; and lines on what could not be used.
    """
    lines: list[str] = []
    for seed in experiment.seeds:
        read = {label: _read(experiment, label, seed, lines) for label in (reference, *others)}
        known = {label: found for label, found in read.items() if found is not None}
        if reference in known and len(known) > 1:
            try:
                return _scene(experiment, data, reference, seed, known, lines), lines
            except (DualViTError, OSError) as error:
                lines.append(f"the pictures on which models differ cannot be told: {error}")
                return None, lines
    return None, lines


def _read(experiment: Experiment, label: str, seed: int, lines: list[str]) -> Predictions | None:
    entry = next(entry for entry in experiment.rows if entry.label == label)
    folder = cell_folder(experiment, entry, seed)
    if not (folder / "result.json").exists():
        return None
    try:
        return read_predictions(folder, experiment)
    except (DualViTError, OSError) as error:
        lines.append(str(error))
        return None


def cell_folder(experiment: Experiment, entry: Entry, seed: int) -> Path:
    """Return where a cell's files are."""
    return experiment.output / "cells" / f"{entry.slug}-s{seed}"


def _scene(
    experiment: Experiment, data: DataSet, reference: str, seed: int, known: Mapping[str, Predictions], lines: list[str]
) -> Scene:
    first, base = known[reference], base_of(data.path)
    truth = engine(experiment, experiment.models[0], data.path).truth(experiment.score)
    places = _places(first, truth, base, lines)
    names = {image.id: image.file for image in first.images}
    models: dict[str, Model] = {}
    for label, predictions in known.items():
        if predictions.classes != first.classes or any(names.get(i.id, i.file) != i.file for i in predictions.images):
            lines.append(f"{label} seed {seed}: its predictions are of other pictures or classes than {reference}'s")
            continue
        models[label] = judged(label, predictions, places)
    pairs = [_pair(models[reference], models[label], names) for label in known if label in models][1:]
    measure = MEASURES[experiment.task]
    if experiment.task == "detect" and any(one.segmentation for one in first.annotations):
        measure = MEASURES["segment"]
    found = Differences(reference, seed, experiment.score, measure, pairs, lines)
    return Scene(found, known, models, truth, places, base)


def _places(predictions: Predictions, truth: Any, base: Path, lines: list[str]) -> dict[int, Any]:
    """Where the truth has each picture; they are known by their names, since numbers change with the data set.

    Raises:
        ValueError: the data set's classes are not those that were predicted.
    """
    if truth is None:
        return {}
    classes = truth.classes if isinstance(truth, Coco) else truth.masks.classes
    if tuple(classes) != predictions.classes:
        odd = sorted(set(classes) ^ set(predictions.classes)) or ["another order"]
        raise InputError(f"the data set's classes are not those of the predictions, such as {odd[0]}")
    if isinstance(truth, Coco):
        known: dict[str, Any] = {relative(picture.file, base): picture for picture in reversed(truth.pictures)}
    else:
        known = {relative(file, base): index for index, (file, _) in enumerate(truth.samples)}
    there = {image.id: known[image.file] for image in predictions.images if _is_there(image, known)}
    gone = [image.file for image in predictions.images if image.id not in there]
    if gone:
        words = "picture is" if len(gone) == 1 else "pictures are"
        lines.append(f"{len(gone)} {words} gone from the data set or changed, such as {gone[0]}, and left out")
    return there


def _is_there(image: Shown, known: Mapping[str, Any]) -> bool:
    found = known.get(image.file)
    return found is not None and (
        not isinstance(found, Picture) or (found.width, found.height) == (image.width, image.height)
    )


def _pair(reference: Model, other: Model, names: Mapping[int, str]) -> Pair:
    both = [number for number in reference.pictures if number in other.pictures]

    def gap(number: int) -> float:
        return other.pictures[number].score - reference.pictures[number].score

    def tie(number: int) -> float:
        return abs(other.pictures[number].tie - reference.pictures[number].tie)

    order = sorted(both, key=lambda number: (-round(abs(gap(number)), 9), -tie(number), number))
    differing = [number for number in order if round(gap(number), 9)]
    limits = {m.label: m.confidence for m in (reference, other) if m.confidence is not None}
    better = sum(gap(number) > 0 for number in differing)
    return Pair(
        other.label, limits, better, len(differing) - better, len(both) - len(differing),
        [
            Difference(number, names[number], reference.pictures[number].score, other.pictures[number].score,
                       _counts(reference, other, number) if limits else {})
            for number in differing[:SHOWN]
        ],
    )  # fmt: skip


def _counts(reference: Model, other: Model, number: int) -> dict[str, dict[str, int]]:
    def count(one: Judged) -> dict[str, int]:
        return {"hits": len(one.hits), "false": len(one.false), "missed": len(one.missed)}

    return {"reference": count(reference.pictures[number]), "other": count(other.pictures[number])}
