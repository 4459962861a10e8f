"""Ultralytics' five predictors, which refuse images with NaN instead of finding nothing in them."""

from typing import Any

import torch
from torch import Tensor
from ultralytics.models import yolo

from dualvit.errors import InputError


class DualPredictor:
    """Mixin in front of a stock predictor."""

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


class DetectionPredictor(DualPredictor, yolo.detect.DetectionPredictor):
    """Ultralytics' detection predictor with finite input."""


class SegmentationPredictor(DualPredictor, yolo.segment.SegmentationPredictor):
    """Ultralytics' segmentation predictor with finite input."""


class ClassificationPredictor(DualPredictor, yolo.classify.ClassificationPredictor):
    """Ultralytics' classification predictor with finite input."""


class PosePredictor(DualPredictor, yolo.pose.PosePredictor):
    """Ultralytics' pose predictor with finite input."""


class OBBPredictor(DualPredictor, yolo.obb.OBBPredictor):
    """Ultralytics' oriented-box predictor with finite input."""
