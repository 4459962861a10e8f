"""A YOLO checkpoint that `dualvit doctor` asks what it sees."""

from pathlib import Path
from typing import Any

import numpy as np

from dualvit.errors import InputError
from dualvit.yolo.model import YOLO

OVERLAP = 0.6  # IoU from which of two predictions of a class the weaker one goes


class YoloWitness:
    """A checkpoint of YOLO: what it sees, also with little confidence.

    Args:
        checkpoint: .pt or .safetensors.
        image_size: The longer side in pixels; None takes the size that it was trained at.
        least: Predictions with a lower score are left out.
        most: Objects in a picture.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is for poses or oriented boxes.
    """

    def __init__(self, checkpoint: Path, image_size: int | None, least: float, most: int) -> None:
        self.model = YOLO(checkpoint)
        self.task = str(self.model.task)
        if self.task not in ("detect", "segment", "classify"):
            raise InputError(f"{checkpoint} is a model for {self.task}; give one of task detect, segment or classify")
        names = self.model.names
        self.classes = tuple(str(names[index]) for index in range(len(names)))
        self.settings: dict[str, Any] = {"conf": least, "iou": OVERLAP, "max_det": most, "verbose": False}
        if image_size:
            self.settings["imgsz"] = image_size

    def objects(self, file: Path) -> tuple[Any, Any, Any]:
        """Return boxes (M, 4) in pixels, classes (M,) and scores (M,)."""
        found = self.model.predict(str(file), **self.settings)[0].boxes
        return found.xyxy.cpu().numpy(), found.cls.cpu().numpy().astype(int), found.conf.cpu().numpy()

    def probabilities(self, file: Path) -> np.ndarray[Any, Any]:
        """Return the probability of each class, (C,)."""
        return self.model.predict(str(file), **self.settings)[0].probs.data.float().cpu().numpy()
