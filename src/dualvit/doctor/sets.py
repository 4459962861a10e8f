"""A data set of any layout as the doctor sees it: pictures with objects, and what is wrong with the files of labels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import Segmentation
from dualvit.doctor.findings import Finding

PARTS = ("train", "val", "test")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """An object of a label.

    Attributes:
        label: The index of its class.
        box: x1, y1, x2, y2, in pixels or as shares of the sides.
        outline: Points, (P, 2), of a polygon alone.
        place: In its file, such as "line 3".
        segmentation: As COCO's json has it, or none.
    """

    label: int
    box: Box
    outline: np.ndarray[Any, Any] | None = None
    place: str = ""
    segmentation: Segmentation | None = None


@dataclass
class Item:
    """A picture with its label.

    Attributes:
        file: The picture.
        split: The part that it is in.
        source: The file of its label; the json, the mask; or the folder of its class.
        things: Its objects.
        label: Its class, of a picture in a folder of classes.
        said: Width and height as the label's file says them.
    """

    file: Path
    split: str
    source: Path
    things: list[Thing] = field(default_factory=list)
    label: int | None = None
    said: tuple[int, int] | None = None


@dataclass
class DataSet:
    """A data set.

    Attributes:
        place: The data.yaml or the folder.
        layout: yolo, coco, folders or masks.
        task: detect, segment, pose, classify or semantic.
        classes: Their names.
        items: All pictures, in the order of the parts.
        shares: Whether boxes are shares of the picture's sides, and not pixels.
        findings: What is wrong with the files themselves.
    """

    place: Path
    layout: str
    task: str
    classes: tuple[str, ...]
    items: list[Item] = field(default_factory=list)
    shares: bool = False
    findings: list[Finding] = field(default_factory=list)

    def of(self, split: str) -> list[Item]:
        """Return the pictures of a part."""
        return [item for item in self.items if item.split == split]

    @property
    def splits(self) -> list[str]:
        """The parts that have pictures."""
        return [split for split in PARTS if any(item.split == split for item in self.items)]
