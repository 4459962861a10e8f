"""The YOLO layout for the doctor: each line that is no box or polygon is a finding, and the reading goes on."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.yolo_layout import Pair, read_pairs
from dualvit.doctor.findings import Finding
from dualvit.doctor.sets import PARTS, Box, DataSet, Item, Thing
from dualvit.errors import DualViTError, InputError
from dualvit.files import at_limit, read_yaml

FAR = 2.0  # a coordinate beyond it is no share of a side that is a little too large, but a number of pixels
NO_LABELS = ("classes.txt", "readme.txt", "readme.dataset.txt", "readme.roboflow.txt")  # text files beside labels


def read_yolo_set(file: Path) -> DataSet:
    """Read a data.yaml and all of its label files.

    Raises:
        FileNotFoundError: none of its parts has pictures.
        ValueError: it is no YAML, or names no classes.
    """
    parts, content = _parts(file), read_yaml(file)
    classes = next(iter(parts.values()))[0]
    data = DataSet(file, "yolo", "detect", classes, shares=True)
    points = _keypoints(content)
    for split, (_, pairs) in parts.items():
        for picture, label in pairs:
            item = Item(picture, split, label)
            item.things = list(_objects(item, len(classes), points, data.findings))
            data.items.append(item)
    things = [thing for item in data.items for thing in item.things]
    if points:
        data.task = "pose"
    elif things and sum(thing.outline is not None for thing in things) > len(things) / 2:
        data.task = "segment"
    data.findings += _missing_parts(file, parts)
    data.findings += _unmatched([(item.file, item.source) for item in data.items])
    return data


def _parts(file: Path) -> dict[str, tuple[tuple[str, ...], tuple[Pair, ...]]]:
    """The parts of a data.yaml that can be listed.

    Raises:
        ValueError: none can.
    """
    parts, first = {}, None
    for split in PARTS:
        try:
            parts[split] = read_pairs(file, split)
        except DualViTError as error:
            first = first or error
    if not parts:
        assert first is not None
        raise first
    return parts


def _missing_parts(file: Path, parts: Iterable[str]) -> Iterator[Finding]:
    for split in ("train", "val"):
        if split not in parts:
            try:
                read_pairs(file, split)
            except DualViTError as error:
                yield Finding("no-split", str(error), split=split)


def _keypoints(content: dict[str, Any]) -> int:
    shape = content.get("kpt_shape")
    return shape[0] * shape[1] if isinstance(shape, list) and len(shape) == 2 else 0


def _objects(item: Item, classes: int, points: int, findings: list[Finding]) -> Iterator[Thing]:
    """The objects of a label file, as shares of the sides; each line that holds none goes to the findings."""
    try:
        lines = item.source.read_text(encoding="utf-8-sig").splitlines() if item.source.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        if at_limit(error):
            raise
        findings.append(Finding("bad-label", f"cannot read {item.source}: {error}", (item.file,), item.split))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, numbers = _numbers(line, classes, points)
        except InputError as error:
            findings.append(Finding("bad-label", f"{item.source}, line {number} {error}", (item.file,), item.split))
            continue
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield Thing(label, box, place=f"line {number}")
        else:
            outline = np.array(numbers).reshape(-1, 2)
            yield Thing(label, _around(outline), outline, f"line {number}")


def _numbers(line: str, classes: int, points: int) -> tuple[int, list[float]]:
    """The class and the numbers of a line: 4 of a box, or those of a polygon.

    Raises:
        ValueError: it has none; the message goes on from the number of the line.
    """
    try:
        label, *numbers = map(float, line.split())
    except ValueError:
        raise InputError(f"is no box or polygon: {line[:60]!r} is not made of numbers") from None
    if not 0 <= label < classes or label != int(label):
        raise InputError(f"has class {label:g}; the names are those of 0 to {classes - 1}")
    if points and len(numbers) == 4 + points:
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise InputError(f"has {len(numbers)} numbers after the class; a box has 4 and a polygon 6, 8, 10, ...")
    far = next((value for value in numbers if not abs(value) <= FAR), None)  # which NaN is not
    if far is not None:
        raise InputError(f"has the coordinate {far:g}; give shares of width and height, 0 to 1")
    return int(label), numbers


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
