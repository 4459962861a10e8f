"""Ultralytics' five predictors: images with NaN are refused, and each image has its own file of results."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from ultralytics.models import yolo

from dualvit.data.images import middle
from dualvit.errors import InputError
from dualvit.files import writable


class DualPredictor:
    """Mixin in front of a stock predictor."""

    dataset: Any
    save_dir: Path
    seen: int

    def preprocess(self, im: Any) -> Tensor:
        """Preprocess the images.

        Raises:
            ValueError: a floating-point image holds NaN or infinity.
        """
        batch: Tensor = super().preprocess(im)  # type: ignore[misc]
        floating = im.is_floating_point() if isinstance(im, Tensor) else any(image.dtype.kind == "f" for image in im)
        if floating:
            bad = [i for i, image in enumerate(batch) if not bool(torch.isfinite(image).all())]
            if bad:
                raise InputError(f"image {bad[0]} of the batch holds NaN or infinite values; give finite ones, 0 to 1")
        return batch

    def write_results(self, i: int, p: Path, im: Any, s: list[str]) -> str:
        """Write what was found in an image, under a name that no other image of the run has.

        OpenCV's writer crashes at a name that is no text, and older versions write over files of the same name.
        """
        if self.seen == 1:  # the first of a run
            self._taken: set[str] = set()
            self._given = {Path(file).resolve() for file in getattr(self.dataset, "files", ())}
        if self.dataset.mode == "image":
            p = self._free(p.with_name(writable(p.name)))
        written: str = super().write_results(i, p, im, s)  # type: ignore[misc]
        return written

    def _free(self, path: Path) -> Path:
        for number in count(1):
            free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            places = {(self.save_dir / name).resolve() for name in (free.name, f"{free.stem}.jpg")}
            if free.stem.casefold() not in self._taken and not places & self._given:
                break
        self._taken.add(free.stem.casefold())
        return free


class DetectionPredictor(DualPredictor, yolo.detect.DetectionPredictor):
    """Ultralytics' detection predictor with finite input."""


class SegmentationPredictor(DualPredictor, yolo.segment.SegmentationPredictor):
    """Ultralytics' segmentation predictor with finite input."""


class ClassificationPredictor(DualPredictor, yolo.classify.ClassificationPredictor):
    """Ultralytics' classification predictor with finite input."""

    def preprocess(self, im: Any) -> Tensor:
        """Preprocess the images; of a very long one the middle, since all of it would be enlarged."""
        if isinstance(im, list):
            im = [np.asarray(middle(Image.fromarray(image))) if image.dtype == np.uint8 else image for image in im]
        return super().preprocess(im)


class PosePredictor(DualPredictor, yolo.pose.PosePredictor):
    """Ultralytics' pose predictor with finite input."""


class OBBPredictor(DualPredictor, yolo.obb.OBBPredictor):
    """Ultralytics' oriented-box predictor with finite input."""
