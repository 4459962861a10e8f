"""What a trained network of a comparison says of each picture: Ultralytics' validator, whose results are kept.

Confidence, suppression and the form of the results are the validator's own. Weights come from memory.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics.models import yolo

from dualvit.data.coco import Coco, Picture
from dualvit.data.yolo_layout import find_yaml, read_yolo
from dualvit.errors import InputError
from dualvit.yolo.model import YOLO


class Keeping:
    """Mixin in front of a stock validator: it keeps COCO's results, each with the path of its picture."""

    jdict: list[dict[str, Any]]
    names: dict[int, str]
    dataloader: Any
    metrics: Any

    def init_metrics(self, model: Any) -> None:
        """Begin anew; classes are numbered from 0 in every data set."""
        super().init_metrics(model)  # type: ignore[misc]
        self.class_map = list(range(len(self.names)))
        self.results: list[tuple[str, dict[str, Any]]] = []

    def pred_to_json(self, predn: Any, picture: Any, *others: Any) -> None:
        """Add a picture's results; older versions give its path alone."""
        before = len(self.jdict)
        super().pred_to_json(predn, picture, *others)  # type: ignore[misc]
        file = str(picture["im_file"] if isinstance(picture, dict) else picture)
        self.results += [(file, row) for row in self.jdict[before:]]

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Score nothing more: what is kept is scored against the package's own reading of the labels."""
        return stats


class DetectionValidator(Keeping, yolo.detect.DetectionValidator):
    """Ultralytics' detection validator, which keeps its results."""


class SegmentationValidator(Keeping, yolo.segment.SegmentationValidator):
    """Ultralytics' segmentation validator, which keeps its results."""

    def scale_preds(self, predn: dict[str, Any], pbatch: dict[str, Any]) -> dict[str, Any]:
        """Bring masks to the picture's size, each pixel to the nearer of 0 and 1; newer versions round all down."""
        shares = super().scale_preds({**predn, "masks": predn["masks"] * 255}, pbatch)
        return {**shares, "masks": (shares["masks"] > 127).byte()}


VALIDATORS = {"detect": DetectionValidator, "segment": SegmentationValidator}


def validated(model: YOLO, split: str, arguments: Mapping[str, Any], threads: int, keep: bool) -> Keeping:
    """Validate a model as its training does, in the same batches.

    Args:
        model: With the weights to validate.
        split: val or test.
        arguments: Of the training.
        threads: Of torch on the CPU.
        keep: Keep the results, and compare masks at full size.

    Returns:
        The validator, which has scores and results.
    """
    made: list[Keeping] = []

    def make(args: dict[str, Any], _callbacks: Any) -> Keeping:
        made.append(VALIDATORS[model.task](args=args, _callbacks=_callbacks))
        return made[0]

    def on_start(validator: Any) -> None:
        if validator.device.type == "cpu":
            torch.set_num_threads(threads)  # Ultralytics leaves one core free, which of two is half

    model.add_callback("on_val_start", on_start)
    settings = {key: arguments[key] for key in ("data", "imgsz", "device", "workers")}
    with tempfile.TemporaryDirectory() as folder:
        model.val(
            validator=make, split=split, batch=2 * arguments["batch"], save_json=keep, plots=False, verbose=False,
            project=folder, name="val", exist_ok=True, **settings,
        )  # fmt: skip
    return made[0]


def truth_of(data: str | Path, split: str) -> Coco:
    """Read the objects of a split by the package's own reader, of which results are scored.

    Raises:
        FileNotFoundError: no such data set, or no pictures.
        ValueError: no such split.
    """
    return read_yolo(find_yaml(data) or Path(data), split)


def content_of(validator: Keeping, truth: Coco) -> dict[str, Any]:
    """Return what predictions.json holds of a validation: images, categories and annotations, in COCO's form.

    Raises:
        ValueError: Ultralytics has read a picture that the package's reader does not have.
    """
    pictures = {_place(picture.file): picture for picture in reversed(truth.pictures)}
    seen: dict[str, Picture] = {}
    for file in map(str, validator.dataloader.dataset.im_files):
        if _place(file) not in pictures:
            raise InputError(f"{file} was validated on, and is not among the pictures of {truth.name}")
        seen.setdefault(_place(file), pictures[_place(file)])
    shapes = ("category_id", "bbox", "score", "segmentation")
    rows = [
        {"image_id": seen[_place(file)].id, **{key: row[key] for key in shapes if key in row}}
        for file, row in validator.results
    ]
    images = sorted(seen.values(), key=lambda picture: picture.id)
    return {
        "images": [{"id": p.id, "file": p.file, "width": p.width, "height": p.height} for p in images],
        "categories": [{"id": index, "name": name} for index, name in enumerate(truth.classes)],
        "annotations": sorted(rows, key=lambda row: row["image_id"]),
    }


def _place(file: str | Path) -> str:
    return os.path.normpath(Path(file).absolute())
