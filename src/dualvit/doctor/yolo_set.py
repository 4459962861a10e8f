"""The YOLO layout for the doctor: each line that is no box or polygon is a finding, and the reading goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.images import UnreadableError
from dualvit.data.yolo_labels import Pair, read_line, read_rows
from dualvit.data.yolo_layout import Layout, read_layout
from dualvit.doctor.findings import Finding
from dualvit.doctor.sets import PARTS, Box, DataSet, Item, Thing
from dualvit.errors import DualViTError

NO_LABELS = ("classes.txt", "readme.txt", "readme.dataset.txt", "readme.roboflow.txt")  # text files beside labels


def read_yolo_set(file: Path) -> DataSet:
    """Read a data.yaml and all of its label files.

    Raises:
        FileNotFoundError: none of its parts has pictures.
        ValueError: it is no YAML, or names no classes.
    """
    layout = read_layout(file)
    data = DataSet(file, "yolo", "detect", layout.classes, shares=True)
    for split, pairs in _parts(layout, data.findings).items():
        for picture, label in pairs:
            item = Item(picture, split, label)
            item.things = list(_objects(item, len(layout.classes), layout.keypoints, data.findings))
            data.items.append(item)
    things = [thing for item in data.items for thing in item.things]
    if layout.keypoints:
        data.task = "pose"
    elif things and sum(thing.outline is not None for thing in things) > len(things) / 2:
        data.task = "segment"
    data.findings += _unmatched([(item.file, item.source) for item in data.items])
    return data


def _parts(layout: Layout, findings: list[Finding]) -> dict[str, tuple[Pair, ...]]:
    """The parts of a data.yaml that can be listed.

    Raises:
        FileNotFoundError, ValueError: none can.
    """
    parts: dict[str, tuple[Pair, ...]] = {}
    errors: dict[str, DualViTError] = {}
    for split in PARTS:
        try:
            parts[split] = layout.pairs(split)
        except DualViTError as error:
            errors[split] = error
    if not parts:
        raise errors["train"]
    findings += [Finding("no-split", str(errors[split]), split=split) for split in ("train", "val") if split in errors]
    return parts


def _objects(item: Item, classes: int, points: int, findings: list[Finding]) -> Iterator[Thing]:
    """The objects of a label file, as shares of the sides; each line that holds none goes to the findings."""
    try:
        rows = read_rows(item.source)
    except UnreadableError as error:
        findings.append(Finding("bad-label", str(error), (item.file,), item.split))
        return
    for number, words in rows:
        try:
            label, numbers = read_line(words, classes, points)
        except UnreadableError as error:
            findings.append(Finding("bad-label", f"{item.source}, line {number} {error}", (item.file,), item.split))
            continue
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield Thing(label, box, place=f"line {number}")
        else:
            outline = np.array(numbers).reshape(-1, 2)
            yield Thing(label, _around(outline), outline, f"line {number}")


def _around(outline: np.ndarray[Any, Any]) -> Box:
    return (*map(float, outline.min(0)), *map(float, outline.max(0)))  # type: ignore[return-value]


def _unmatched(pairs: list[Pair]) -> Iterator[Finding]:
    """Labels without pictures, pictures without labels, and pictures that share a label file."""
    owners: dict[Path, list[Path]] = {}
    for picture, label in pairs:
        if picture not in owners.setdefault(label, []):
            owners[label].append(picture)
    for folder in sorted({label.parent for label in owners}):
        for file in sorted(folder.glob("*.txt")):
            if file not in owners and file.name.lower() not in NO_LABELS and not file.name.startswith("."):
                yield Finding("label-without-picture", f"{file} has no picture", (file,))
    for label, pictures in owners.items():
        if len(pictures) > 1:
            names = " and ".join(picture.name for picture in pictures[:3])
            yield Finding("same-label-file", f"{names} share {label}", tuple(pictures))
        if not label.is_file():
            yield Finding("picture-without-label", f"{pictures[0]} has no {label}", (pictures[0],))
