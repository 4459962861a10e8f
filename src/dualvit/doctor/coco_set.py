"""COCO's layout for the doctor: each image or annotation that cannot be used is a finding, and the reading goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import content_of, id_text
from dualvit.data.images import pictures_in
from dualvit.doctor.findings import Finding
from dualvit.doctor.sets import DataSet, Item, Thing
from dualvit.errors import InputError

COCO = {  # where the annotations and the pictures of a part may be, the first that is there
    "train": (("annotations/instances_train2017.json", "train2017"), ("train.json", "train"),
              ("annotations/instances_train.json", "train"), ("annotations/train.json", "images/train"),
              ("train/_annotations.coco.json", "train"), ("annotations/train.json", "train")),
    "val": (("annotations/instances_val2017.json", "val2017"), ("val.json", "val"),
            ("annotations/instances_val.json", "val"), ("annotations/val.json", "images/val"),
            ("valid/_annotations.coco.json", "valid"), ("annotations/val.json", "val")),
}  # fmt: skip


def coco_files(root: Path, names: dict[str, tuple[str, str]]) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield each part that has a json, with the json and the folder of pictures."""
    for split in ("train", "val"):
        choices = (names[split], *COCO[split]) if split in names else COCO[split]
        for file, folder in choices:
            if (root / file).is_file():
                yield split, (root / file, root / folder)
                break


def read_coco_set(root: Path, files: dict[str, tuple[Path, Path]]) -> DataSet:
    """Read the jsons of a data set.

    Raises:
        ValueError: one is not of COCO's format.
    """
    data = DataSet(root, "coco", "detect", ())
    known: dict[str, int] = {}
    for split, (file, folder) in files.items():
        content = _json(file)
        categories = sorted(content["categories"], key=lambda one: id_text(one.get("id")).zfill(12))
        named = {id_text(one.get("id")): str(one.get("name")) for one in categories}
        if not data.classes:
            data.classes = tuple(named.values())
            known = {key: index for index, key in enumerate(named)}
        elif {key: data.classes[index] for key, index in known.items()} != named:
            message = f"{file} has other categories than {next(iter(files.values()))[0].name}; give both the same"
            data.findings.append(Finding("bad-label", message, split=split))
        items = _items(content, split, file, folder, data.findings)
        for one in content["annotations"]:
            _add(one, items, known, file, data.findings)
        data.items += items.values()
        listed = {item.file for item in items.values()}
        for picture in pictures_in(folder) if folder.is_dir() else ():
            if picture not in listed:
                message = f"{picture} is not among the images of {file.name}"
                data.findings.append(Finding("picture-without-label", message, (picture,), split))
    for split in ("train", "val"):
        if split not in files:
            message = f"{root} has no annotations of {split}; `--set data.{split}_json=FILE` names them"
            data.findings.append(Finding("no-split", message, split=split))
    things = [thing for item in data.items for thing in item.things]
    if sum(bool(thing.segmentation) for thing in things) > len(things) / 2:
        data.task = "segment"
    return data


def _json(file: Path) -> dict[str, Any]:
    """The json of COCO's format.

    Raises:
        ValueError: it is none.
    """
    content: dict[str, Any] = content_of(file)
    for key in ("images", "categories", "annotations"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{file} is not in COCO's format: {key!r} is no list of objects")
    return content


def _items(
    content: dict[str, Any], split: str, file: Path, folder: Path, findings: list[Finding]
) -> dict[str, Item]:  # fmt: skip
    items: dict[str, Item] = {}
    for image in content["images"]:
        key, name = id_text(image.get("id")), image.get("file_name")
        if image.get("id") is None or not isinstance(name, str):
            findings.append(Finding("bad-label", f"{file}: an image without id or file_name: {image}"[:200], (), split))
            continue
        if key in items:
            findings.append(Finding("bad-label", f"{file}: two images have the id {key}", (folder / name,), split))
            continue
        width, height = image.get("width"), image.get("height")
        sized = isinstance(width, int | float) and isinstance(height, int | float)
        items[key] = Item(folder / name, split, file, said=(int(width), int(height)) if sized else None)
    return items


def _add(
    one: dict[str, Any], items: dict[str, Item], known: dict[str, int], file: Path, findings: list[Finding]
) -> None:  # fmt: skip
    """Add an annotation to its picture, or what is wrong with it to the findings."""
    place = f"annotation {one.get('id')}"
    item = items.get(id_text(one.get("image_id")))
    if item is None:
        message = f"{file}: {place} is of image {one.get('image_id')}, which is not among its images"
        findings.append(Finding("label-without-picture", message))
        return
    wrong = _wrong(one, known)
    if wrong:
        findings.append(Finding("bad-label", f"{file}: {place} {wrong}", (item.file,), item.split))
        return
    if one.get("iscrowd"):
        return
    x, y, width, height = map(float, one["bbox"])
    shape = one.get("segmentation") or None
    single = isinstance(shape, list) and len(shape) == 1
    outline = np.array(shape[0], np.float64).reshape(-1, 2) if single else None  # type: ignore[index]
    thing = Thing(known[id_text(one["category_id"])], (x, y, x + width, y + height), outline, place, shape)
    item.things.append(thing)


def _wrong(one: dict[str, Any], known: dict[str, int]) -> str:
    """What is wrong with an annotation; nothing if it can be used."""
    if id_text(one.get("category_id")) not in known:
        return f"is of category {one.get('category_id')}, and the categories are {', '.join(map(str, known))[:80]}"
    box = one.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and v == v for v in box)):
        return f"has the bbox {str(box)[:60]}; give x, y, width and height"
    shape = one.get("segmentation")
    if isinstance(shape, list):
        for polygon in shape:
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
                return "has a polygon of fewer than three points, or of half a point"
    return ""
