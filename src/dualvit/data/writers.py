"""Labelled pictures in the YOLO layout, as COCO's json, and as Pascal VOC's xml."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import Segmentation, decode
from dualvit.data.notes import Notes
from dualvit.data.polygons import Points, joined, rings
from dualvit.data.voc import annotation_text, pixels

DIGITS = 9  # of a share of a side: a millionth of a pixel of 1,000
EXACT = 0.01  # pixels; by so much, shares of six digits miss whole ones
CLOSE = 1.0  # pixels by which a box may miss its outline


@dataclass(frozen=True)
class Thing:
    """An object in an upright picture.

    Attributes:
        label: Index of its class.
        box: x1, y1, x2, y2 in pixels, inside the picture.
        outline: Polygons or run lengths; None if there is only a box.
        area: In pixels, as COCO counts it.
        crowd, difficult: What COCO's and VOC's evaluators leave out.
    """

    label: int
    box: tuple[float, float, float, float]
    outline: Segmentation | None
    area: float
    crowd: bool
    difficult: bool


@dataclass(frozen=True)
class Example:
    """A picture that is written.

    Attributes:
        file: Where it is now.
        name: What it is called in the result.
        width, height: In pixels, upright.
        things: Its objects.
    """

    file: Path
    name: str
    width: int
    height: int
    things: tuple[Thing, ...]


Examples = dict[str, list[Example]]


@dataclass(frozen=True)
class Writer:
    """A layout to write.

    Attributes:
        images: The folder of a split's pictures, with {split} in it.
        labels: Writes the labels into a folder, and returns the number of objects.
        next: A command that reads them, with {out}; and another if there are outlines.
    """

    images: str
    labels: Callable[[Path, tuple[str, ...], Examples, Notes], int]
    next: tuple[str, str]


def write_yolo(folder: Path, classes: tuple[str, ...], examples: Examples, notes: Notes) -> int:
    """Write data.yaml and a text file per picture: boxes; or polygons for all objects if any has an outline.

    Ultralytics takes no polygon of a split that holds a box too.
    """
    outlined = any(
        thing.outline and not thing.crowd for found in examples.values() for one in found for thing in one.things
    )
    written = 0
    for split, found in examples.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        for one in found:
            things = [thing for thing in one.things if _has_place(one, thing, notes, "the YOLO layout")]
            rows = "".join(_row(one, thing, outlined, notes) for thing in things)
            (labels / one.name).with_suffix(".txt").write_text(rows, encoding="utf-8")
            written += len(things)
    names = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(classes))
    lines = "".join(f"{split}: images/{split}\n" for split in examples)
    (folder / "data.yaml").write_text(f"{lines}names:\n{names}", encoding="utf-8")
    return written


def _has_place(one: Example, thing: Thing, notes: Notes, layout: str) -> bool:
    """Whether a layout without crowds has a place for an object, which may still lose a mark."""
    if thing.crowd:
        notes.add(f"crowds are left out, for which {layout} has no mark", one.name)
    elif thing.difficult and layout.endswith("YOLO layout"):
        notes.add("difficult objects become ordinary ones", one.name)
    return not thing.crowd


def _row(one: Example, thing: Thing, outlined: bool, notes: Notes) -> str:
    """An object's line: class and shares of the sides, of the box's centre and size or of the polygon's points."""
    sides = np.array([one.width, one.height])
    if outlined:
        points = _polygon(one, thing, notes).clip(0, sides)
        if np.abs(np.concatenate([points.min(0), points.max(0)]) - thing.box).max() > CLOSE:
            notes.add("boxes over a pixel from their outlines are left out for these", one.name)
    else:
        corner, far = np.array(thing.box).reshape(2, 2)
        points = np.array([(corner + far) / 2, far - corner])
    shares = points / sides
    return f"{thing.label} {' '.join(_plain(share) for share in shares.reshape(-1))}\n"


def _plain(share: float) -> str:
    return f"{share:.{DIGITS}f}".rstrip("0").rstrip(".")


def _polygon(one: Example, thing: Thing, notes: Notes) -> Points:
    """The outline of an object as one polygon, in a set in which all have one."""
    x1, y1, x2, y2 = thing.box
    corners, outline = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), thing.outline
    if outline is None:
        notes.add("boxes are written as polygons of four points, since other objects have outlines", one.name)
        return corners
    if isinstance(outline, dict):
        parts = rings(decode(outline, one.height, one.width))
        what = "become polygons around their pixels" if parts else "without a pixel become polygons around their boxes"
        notes.add(f"masks {what}", one.name)
        return joined(parts or [corners])
    if len(outline) > 1:
        notes.add("objects of several parts become one polygon, with bridges that have no width", one.name)
    return joined([np.array(part, float).reshape(-1, 2) for part in outline])


def write_coco(folder: Path, classes: tuple[str, ...], examples: Examples, notes: Notes) -> int:
    """Write a json per split under COCO's own names, with categories numbered from 1."""
    (folder / "annotations").mkdir()
    categories, written = [{"id": number, "name": name} for number, name in enumerate(classes, 1)], 0
    for split, found in examples.items():
        images, annotations = [], []
        for key, one in enumerate(found, 1):
            images.append({"id": key, "file_name": one.name, "width": one.width, "height": one.height})
            annotations += [_annotation(key, thing) for thing in one.things]
        numbered = [{"id": number} | annotation for number, annotation in enumerate(annotations, 1)]
        content = {"info": {}, "images": images, "annotations": numbered, "categories": categories}
        file = folder / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        written += len(annotations)
    return written


def _annotation(key: int, thing: Thing) -> dict[str, Any]:
    x1, y1, x2, y2 = thing.box
    marks = {"iscrowd": int(thing.crowd)} | ({"difficult": 1} if thing.difficult else {})
    return {
        "image_id": key, "category_id": thing.label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": thing.area,
        "segmentation": thing.outline or [], **marks,
    }  # fmt: skip


def write_voc(folder: Path, classes: tuple[str, ...], examples: Examples, notes: Notes) -> int:
    """Write an xml per picture, and a list per split."""
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    written = 0
    for split, found in examples.items():
        for one in found:
            objects = []
            for thing in one.things:
                if not _has_place(one, thing, notes, "VOC's xml"):
                    continue
                if thing.outline:
                    notes.add("outlines are left out, for which VOC's xml has no place", one.name)
                if any(abs(edge - round(edge)) > EXACT for edge in thing.box):
                    notes.add("boxes are rounded to whole pixels", one.name)
                marks = {"name": classes[thing.label], "difficult": int(thing.difficult)}
                objects.append(marks | {"pixels": pixels(thing.box, one.width, one.height)})
            written += len(objects)
            image = {"file_name": one.name, "width": one.width, "height": one.height}
            file = (folder / "Annotations" / one.name).with_suffix(".xml")
            file.write_text(annotation_text(image, objects), encoding="utf-8")
        stems = "".join(f"{Path(one.name).stem}\n" for one in found)
        (folder / f"ImageSets/Main/{split}.txt").write_text(stems, encoding="utf-8")
    return written


TRAIN = "dualvit yolo {task} train model=yolov8n-dualvit{suffix}.yaml data={{out}}/data.yaml"
FIT = "dualvit recipe fit {recipe} --set data.root={{out}} --out {{out}}-run"
WRITERS = {
    "yolo": Writer(
        "images/{split}",
        write_yolo,
        (TRAIN.format(task="detect", suffix=""), TRAIN.format(task="segment", suffix="-seg")),
    ),
    "coco": Writer(
        "{split}2017",
        write_coco,
        (FIT.format(recipe="laptop-detect"), FIT.format(recipe="laptop-masks")),
    ),
    "voc": Writer("JPEGImages", write_voc, ("dualvit data convert {out} {out}-yolo --to yolo",) * 2),
}
