"""A file in fp16, bf16 or int8 beside the float32 file: accuracy, scores, size, and what the CPU really computes."""

import ast
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from dualvit.deploy.metadata import KEY, Metadata
from dualvit.deploy.quantise import Compiled, Found, Progress, eligible, layers, open_model, search, to_int8
from dualvit.deploy.runtimes import import_openvino
from dualvit.deploy.subjects import Subject
from dualvit.files import atomic_folder

PRECISIONS = ("int8", "fp16", "bf16")
HINTS = {"int8": "f32", "fp16": "f16", "bf16": "bf16"}  # what OpenVINO is asked for
MEETS = 0.5  # IoU from which two boxes of one class are the same
SURE = 0.25  # score from which a box counts that has no match
SCORED = 0.05  # score from which a box is matched
Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # COCO results by picture


@dataclass(frozen=True)
class Settings:
    """What is made, and how much may be lost.

    Attributes:
        precision: int8, fp16 or bf16.
        shift: The largest error of the outputs on calibration pictures, for the search of float layers.
        keep: The share of the accuracy that the file must keep.
        seconds: For the ranking of roles.
        threads: Of a pass.
    """

    precision: str = "int8"
    shift: float = 0.01
    keep: float = 0.99
    seconds: float = 300.0
    threads: int = 1


@dataclass(frozen=True)
class Shift:
    """How scores of boxes change; of a classifier, a picture counts as one box around all of it, of its best class.

    Attributes:
        mean: Absolute difference of the scores of matched boxes.
        matched: Boxes of one class with IoU 0.5 or more, at least one with a score of 0.05 or more.
        lost: Boxes of the first file with a score of 0.25 or more that have no match; all pictures whose class changes.
        new: Likewise of the second file.
    """

    mean: float
    matched: int
    lost: int
    new: int


@dataclass(frozen=True)
class Smaller:
    """A file in a smaller precision, and its models in memory.

    Attributes:
        float_model, model: Of OpenVINO.
        measures: Accuracies of the float32 file and of the smaller one on the validation pictures, by their names.
        shift: Of scores, likewise.
        found: Of the search of float layers; None unless the precision is int8.
        floats: Layers that stay in float, as a reader sees them.
        share: Of the multiply-adds of all layers that are int8.
        ran: Layers by the precision in which this CPU computes them, of the float32 file and of the smaller one.
        metadata: Of the file, as Ultralytics reads it; empty if the file is no YOLO.
        about: Of the file, as this package reads it.
    """

    float_model: Any
    model: Any
    measures: Mapping[str, tuple[float, float]]
    shift: Shift
    found: Found | None
    floats: tuple[str, ...]
    share: float
    ran: tuple[dict[str, int], dict[str, int]]
    metadata: dict[str, str]
    about: Metadata

    @property
    def worst(self) -> str:
        """The measure of which the smallest share is kept."""
        return min(self.measures, key=lambda name: share_kept(*self.measures[name]))

    @property
    def kept(self) -> float:
        """The share that is kept of this measure; 1 if there was none."""
        return share_kept(*self.measures[self.worst])

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        found = {} if self.found is None else {
            "errors": self.found.errors, "reached": self.found.reached, "unasked": self.found.unasked,
            "ranking": self.found.ranking,
        }  # fmt: skip
        return {
            "accuracy": {name: list(pair) for name, pair in self.measures.items()}, "kept": self.kept,
            "shift": asdict(self.shift), "search": found, "float layers": list(self.floats), "int8 share": self.share,
            "ran": list(self.ran),
        }  # fmt: skip


def share_kept(before: float, after: float) -> float:
    """Return the share of an accuracy that is kept; 1 if there was none."""
    return after / before if before else 1.0


def make(
    subject: Subject, files: Sequence[Path], settings: Settings, progress: Progress = lambda done, total: None
) -> Smaller:
    """Export a network, make the smaller file, and score both.

    Args:
        subject: The network with its data set.
        files: Pictures to calibrate on; fp16 and bf16 need none.
        settings: What is made.
        progress: Is told how many roles the search has asked, and of how many.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        metadata = subject.export(file)
        whole = open_model(file)
    return smaller(subject, whole, metadata, files, settings, progress)


def smaller(
    subject: Subject, whole: Any, metadata: dict[str, str], files: Sequence[Path], settings: Settings,
    progress: Progress = lambda done, total: None,
) -> Smaller:  # fmt: skip
    """Make the smaller file of a model that is open, and score both; see `make`."""
    model, found, share, floats = whole, None, 0.0, []
    if settings.precision == "int8":
        pictures = [subject.picture(file) for file in files]
        found = search(whole, pictures, subject.error, settings.shift, settings.seconds, progress)
        model = to_int8(whole, pictures, found.floats)
        every = layers(model)
        share = sum(one.work for one in every if one.int8) / sum(one.work for one in every)
        able = {one.name for one in eligible(whole)}
        floats = [str(one) for one in every if one.name in able and not one.int8]
    runs = Compiled(whole, settings.threads), Compiled(model, settings.threads, HINTS[settings.precision])
    (before, boxes), (after, others) = (subject.score(run) for run in runs)
    about = Metadata(subject.name, **subject.describe() | {"dynamic": False, "precision": settings.precision})
    return Smaller(
        whole, model, {name: (before[name], after[name]) for name in before},
        score_shift(boxes, others, subject.sure), found, tuple(floats), share, (runs[0].ran(), runs[1].ran()),
        metadata, about,
    )  # fmt: skip


def score_shift(before: Rows, after: Rows, sure: float = SURE) -> Shift:
    """Match the boxes of two files in each picture, and compare their scores.

    Args:
        before, after: Results by picture.
        sure: The score from which a box counts that has no match.

    Example:
        >>> box = {"category_id": 0, "bbox": [0, 0, 10, 10]}
        >>> score_shift({"a.jpg": [box | {"score": 0.9}]}, {"a.jpg": [box | {"score": 0.5}]}).mean
        0.4
    """
    shifts: list[float] = []
    lost = new = 0
    for picture in {**before, **after}:
        left = sorted(after.get(picture, ()), key=lambda row: -row["score"])
        for row in sorted(before.get(picture, ()), key=lambda row: -row["score"]):
            same = [other for other in left if other["category_id"] == row["category_id"]]
            best = max(same, key=lambda other: _iou(row["bbox"], other["bbox"]), default=None)
            if best is not None and _iou(row["bbox"], best["bbox"]) >= MEETS:
                left.remove(best)
                if max(row["score"], best["score"]) >= min(SCORED, sure):
                    shifts.append(abs(row["score"] - best["score"]))
            else:
                lost += row["score"] >= sure
        new += sum(row["score"] >= sure for row in left)
    return Shift(float(np.mean(shifts)) if shifts else 0.0, len(shifts), lost, new)


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes as left, top, width and height."""
    sides = [min(first[i] + first[i + 2], second[i] + second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    whole = first[2] * first[3] + second[2] * second[3] - both
    return both / whole if whole > 0 else 0.0


def write(made: Smaller, place: Path, name: str, precision: str) -> None:
    """Write the smaller file into a folder: NAME.xml, NAME.bin, and of a YOLO Ultralytics' metadata.yaml.

    A file for fp16 or bf16 holds its weights in fp16, which halves it, and asks for its precision where it is opened.

    Args:
        made: The file.
        place: The folder, which ends in _openvino_model.
        name: Of the file in it.
        precision: Of the file.
    """
    openvino = import_openvino()
    made.model.set_rt_info(made.about.to_json(), [KEY])
    with atomic_folder(place) as folder:
        openvino.save_model(made.model, folder / f"{name}.xml", compress_to_fp16=precision != "int8")
        if not made.metadata:
            return
        content = {key: _value(text) for key, text in made.metadata.items()}
        (folder / "metadata.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _value(text: str) -> Any:
    """A value of an ONNX file's metadata, which holds texts alone: None, a number, a list or a mapping if it is one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
