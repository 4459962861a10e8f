"""Objects in pictures as COCO's json describes them: read, checked, and numbered for an evaluator.

Other layouts are brought into this form first, so that training, evaluation and predictions know one form only.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.images import UnreadableError, size_of
from dualvit.data.outlines import FaultError, Size, checked_box, checked_outline, is_near, number_of
from dualvit.data.outlines import Segmentation as Segmentation
from dualvit.data.outlines import decode as decode
from dualvit.data.outlines import encode as encode
from dualvit.errors import InputError, MissingFileError

SMALLEST = 1e-3  # pixels; a box with a shorter side holds nothing


@dataclass(frozen=True)
class Picture:
    """One picture and what is in it.

    Attributes:
        id: Its number, from 1; what the json calls it may be a text.
        file: Where it is.
        width, height: In pixels, as the json says, or as the file does if the json says nothing.
        boxes: (N, 4) float32 of x1, y1, x2, y2 in pixels, inside the picture.
        labels: (N,) int64, indices of `Coco.classes`.
        segments: N polygons or run lengths; None where an annotation has no outline.
        upright: Whether all this is of the picture as its EXIF orientation shows it, or of the pixels as stored.
    """

    id: int
    file: Path
    width: int
    height: int
    boxes: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    segments: tuple[Segmentation | None, ...]
    upright: bool = True


@dataclass(frozen=True)
class Coco:
    """The pictures of one json.

    Attributes:
        name: Of the json, for messages.
        classes: Names, in the order of their ids.
        category_ids: What the json calls each of them: numbers, or texts if it has any text among them.
        pictures: In the json's order; those without objects are there too.
        truth: The json for an evaluator, in numbers: images by `Picture.id`, categories by their index in `classes`,
            annotations from 1, each with bbox, area and iscrowd.
        notes: What was clipped or left out, or is otherwise than the json says, with counts, a line each.
        unreadable: A line for each image or annotation that is left out, since it, or its labels, cannot be used.
    """

    name: str
    classes: tuple[str, ...]
    category_ids: tuple[int | str, ...]
    pictures: tuple[Picture, ...]
    truth: dict[str, Any]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


NOTES = {
    "clipped": ("box reaches beyond its image and is clipped", "boxes reach beyond their images and are clipped"),
    "outside": ("box is outside its image, or empty, and is left out",
                "boxes are outside their images, or empty, and are left out"),
    "parts": ("outline has parts of fewer than three points, which are left out",
              "outlines have parts of fewer than three points, which are left out"),
    "unsized": ("image has no width and height, and those of its file are taken",
                "images have no width and height, and those of their files are taken"),
    "stored": ("image is labelled as stored, sideways to its EXIF orientation, and is read so",
               "images are labelled as stored, sideways to their EXIF orientation, and are read so"),
    "near": ("image is a pixel larger or smaller than its file, which is cut or padded",
             "images are a pixel larger or smaller than their files, which are cut or padded"),
    "moved": ("image is not where its file_name says, and a file by the end of that name is taken",
              "images are not where their file_name says, and files by the ends of these names are taken"),
    "repeated": ("image is listed twice and is taken once", "images are listed twice and are taken once"),
}  # fmt: skip


@dataclass
class _Image:
    """An image of the json, as far as it is known."""

    id: int
    file: Path
    size: Size | None
    upright: bool = True
    readable: bool = True


def read_coco(file: str | Path, folder: str | Path) -> Coco:
    """Read a json of COCO's format; of each picture the file's head is read too, see `from_content`.

    Args:
        file: The json.
        folder: What its file names begin at.

    Raises:
        FileNotFoundError: one of them is not there, or none of the pictures can be read.
        ValueError: it is not of this format; the message names the first mistake.
    """
    file, folder = Path(file), Path(folder)
    if not file.is_file():
        raise MissingFileError(f"no annotations at {file}; give data.root, data.train_json and data.val_json")
    return from_content(content_of(file), folder, str(file), look=True)


def content_of(file: Path) -> Any:
    """Return what a json holds.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from None


def from_content(content: Any, folder: Path, name: str, look: bool = False) -> Coco:
    """COCO's json, once read, as checked pictures.

    Args:
        content: The json.
        folder: What its file names begin at.
        name: What messages call it.
        look: Look for the pictures: take sizes that the json lacks from their heads, and find out by the sizes whether
            a rotated photograph was labelled upright or as stored.

    Raises:
        ValueError, FileNotFoundError: as `read_coco`.

    Example:
        >>> image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
        >>> box = {"image_id": 7, "category_id": 90, "bbox": [80, 10, 40, 20]}
        >>> coco = from_content(
        ...     {"images": [image], "annotations": [box], "categories": [{"id": 90, "name": "cat"}]}, Path(), "a.json"
        ... )
        >>> coco.pictures[0].boxes.tolist(), coco.notes
        ([[80.0, 10.0, 100.0, 30.0]], ('a.json: 1 box reaches beyond its image and is clipped',))
    """
    rows = {part: _rows(content, part, name) for part in ("images", "annotations", "categories")}
    if not rows["images"] or not rows["categories"]:
        raise InputError(
            f"{name} has {len(rows['images'])} images and {len(rows['categories'])} categories; a data set needs both"
        )
    keys, ids, classes = _categories(rows["categories"], rows["annotations"], name)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    images = _images(rows["images"], folder, name, counts, faults)
    if look:
        _look(list(images.values()), folder, name, counts)
    labels = {key: label for label, key in enumerate(keys)}
    by_image: dict[int, list[dict[str, Any]]] = {image.id: [] for image in images.values()}
    for number, row in enumerate(rows["annotations"], 1):
        where = f"{name}: annotation {number}"
        try:
            image = _image_of(row, images)
            where = f"{name}: annotation {row.get('id', number)} of {image.file.name}"
            if image.readable:  # else whoever loads it notes why it cannot be used
                by_image[image.id].append(_annotation(row, image, labels, counts))
        except FaultError as error:
            faults.append(f"{where} {error}; correct or remove it")
    annotations = [one for found in by_image.values() for one in found]
    for number, one in enumerate(annotations, 1):  # evaluators take the number 0 for "no match"
        one["id"] = number
    pictures = tuple(_picture(image, by_image[image.id], counts) for image in images.values())
    truth = {
        "info": {},
        "images": [{"id": one.id, "file_name": str(one.file), "width": one.width, "height": one.height}
                   for one in pictures],
        "annotations": annotations,
        "categories": [{"id": label, "name": title} for label, title in enumerate(classes)],
    }  # fmt: skip
    notes = tuple(f"{name}: {counts[what]} {words[counts[what] > 1]}" for what, words in NOTES.items() if counts[what])
    return Coco(name, classes, ids, pictures, truth, (*notes, *left_out(name, faults)), tuple(faults))


def left_out(name: str, lines: Sequence[str]) -> list[str]:
    """Return a note on what is left out of a json, with the first; none if there is nothing."""
    if not lines:
        return []
    said = "1 entry is left out" if len(lines) == 1 else f"{len(lines)} entries are left out, the first"
    return [f"{name}: {said}: {lines[0].removeprefix(f'{name}: ')}"]


def _rows(content: Any, part: str, name: str) -> list[Any]:
    if not isinstance(content, dict):
        raise InputError(f"{name} is not in COCO's format: it holds a {type(content).__name__}, and no images")
    if part not in content:
        raise InputError(f"{name} is not in COCO's format: {part!r} is missing")
    rows = content[part] or []
    if not isinstance(rows, list):
        raise InputError(f"{name} is not in COCO's format: {part} is no list")
    return rows


def id_text(value: Any) -> str:
    """Return an id as a text, the same for 1, 1.0 and "1": tools write one id in several ways.

    Example:
        >>> id_text(1.0), id_text("1")
        ('1', '1')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _key(value: Any) -> str:
    """An id as a text.

    Raises:
        FaultError: it is none.
    """
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (whole or isinstance(value, int | str)):
        raise FaultError(f"has the id {value!r}, which is neither a number nor a text")
    return id_text(value)


def _categories(
    rows: list[Any], annotations: list[Any], name: str
) -> tuple[tuple[str, ...], tuple[int | str, ...], tuple[str, ...]]:
    """Keys, ids and names of the categories, in the order of their ids."""
    try:
        names = [(_key(row["id"]), str(row["name"])) for row in rows]
    except KeyError as error:
        raise InputError(f"{name} is not in COCO's format: a category has no {error}") from None
    except (TypeError, FaultError) as error:
        raise InputError(f"{name} is not in COCO's format: a category {error}") from None
    if len({key for key, _ in names}) < len(names):
        raise InputError(f"{name}: two categories have the same id")
    numbers = all(key.removeprefix("-").isdecimal() for key, _ in names)
    names.sort(key=(lambda pair: int(pair[0])) if numbers else None)
    keys, classes = (tuple(part) for part in zip(*names, strict=True))
    said = [row["id"] for row in rows] + [row.get("category_id") for row in annotations if isinstance(row, dict)]
    written = any(isinstance(value, str) for value in said)
    return keys, keys if written else tuple(map(int, keys)), classes


def _images(
    rows: list[Any], folder: Path, name: str, counts: Counter[str], faults: list[str]
) -> dict[str, _Image]:  # fmt: skip
    """The images by their keys."""
    images: dict[str, _Image] = {}
    for number, row in enumerate(rows, 1):
        try:
            if not isinstance(row, dict) or row.get("id") is None or not row.get("file_name"):
                raise FaultError("has no id or no file_name")
            key, file = _key(row["id"]), folder / str(row["file_name"])
        except FaultError as error:
            faults.append(f"{name}: image {number} {error}; correct or remove it")
            continue
        known = images.get(key)
        if known is None:
            images[key] = _Image(len(images) + 1, file, _size(row))
        elif known.file == file:
            counts["repeated"] += 1
        else:
            raise InputError(
                f"{name}: {known.file.name} and {file.name} have the same id {row['id']!r}, so that nobody knows whose "
                "their annotations are; number them anew"
            )
    if not images:
        raise InputError(f"{name} is not in COCO's format: {faults[0].removeprefix(f'{name}: ')}")
    return images


def _size(row: dict[str, Any]) -> Size | None:
    """Width and height that an image's row gives; None if it gives none."""
    try:
        width, height = int(float(row["width"])), int(float(row["height"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _look(images: list[_Image], folder: Path, name: str, counts: Counter[str]) -> None:
    """Find the pictures, and the sizes and orientations that the json leaves open.

    Raises:
        FileNotFoundError: none of them can be used.
    """
    taken = {image.file for image in images if _is_file(image.file)}
    for image in images:
        if image.file not in taken and (found := _found(folder, image.file, taken)):
            image.file = found
            taken.add(found)
            counts["moved"] += 1
    with ThreadPoolExecutor() as pool:  # they wait for the disk
        said = list(pool.map(_frame, images))
    counts.update(what for what in said if what in NOTES)
    if not any(image.readable for image in images):
        first = said[0] if _is_file(images[0].file) else f"the first is expected at {images[0].file}"
        raise MissingFileError(
            f"none of the {len(images)} images of {name} can be used: {first}; correct the json, or data.root, "
            "data.train_images and data.val_images"
        )


def _found(folder: Path, file: Path, taken: set[Path]) -> Path | None:
    """A file by the end of a name: of a path of another machine or of Windows, or one that names the folder again."""
    name = str(file.relative_to(folder) if file.is_relative_to(folder) else file)
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((place for place in places if place not in taken and _is_file(place)), None)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that the system does not take
        return False


def _frame(image: _Image) -> str:
    """Set an image's size, and which way round it was labelled; return a key of NOTES, or why it cannot be used."""
    try:
        upright = size_of(image.file)
        stored = upright if image.size == upright else size_of(image.file, upright=False)
    except UnreadableError as error:
        image.readable = False
        return str(error)
    if image.size is None:
        image.size = upright
        return "unsized"
    if image.size == upright:
        return ""
    if image.size == stored:
        image.upright = False
        return "stored"
    image.upright = is_near(image.size, upright) or not is_near(image.size, stored)
    if is_near(image.size, upright if image.upright else stored):
        return "near"
    image.readable = False
    return other_size(image.file, upright, image.size)


def other_size(file: Path, size: Size, said: Size) -> str:
    """Return that a picture has another size than its annotations say."""
    return f"{file} has {size[0]}x{size[1]} pixels, and its annotations say {said[0]}x{said[1]}"


def _image_of(row: Any, images: dict[str, _Image]) -> _Image:
    if not isinstance(row, dict):
        raise FaultError(f"is a {type(row).__name__}, and no object")
    image = images.get(_key(row.get("image_id")))
    if image is None:
        raise FaultError(f"is of image {row['image_id']}, which is not among its images")
    return image


def _annotation(row: dict[str, Any], image: _Image, labels: dict[str, int], counts: Counter[str]) -> dict[str, Any]:
    """An annotation with what evaluators need, in numbers."""
    if image.size is None:
        raise FaultError("has an image without width and height")
    label = labels.get(_key(row.get("category_id")))
    if label is None:
        few = ", ".join(list(labels)[:10])
        raise FaultError(f"is of category {row['category_id']}, and the categories are {few}")
    segmentation = checked_outline(row.get("segmentation"), image.size, counts)
    box = checked_box(row.get("bbox"), segmentation)
    area, crowd = number_of(row.get("area")), number_of(row.get("iscrowd"))
    complete: dict[str, Any] = {"id": 0, "image_id": image.id, "category_id": label, "bbox": box}
    complete |= {"area": box[2] * box[3] if math.isnan(area) else area, "iscrowd": int(crowd > 0)}
    return complete | ({"segmentation": segmentation} if segmentation else {})


def _picture(image: _Image, annotations: list[dict[str, Any]], counts: Counter[str]) -> Picture:
    """What there is to learn of an image: its objects, without crowds."""
    width, height = image.size or (1, 1)
    boxes, labels, segments = [], [], []
    for one in annotations:
        if one["iscrowd"]:
            continue
        x, y, w, h = one["bbox"]
        box = np.array([x, y, x + w, y + h])
        inside = np.clip(box, 0, [width, height, width, height])
        if not (inside[2:] - inside[:2] > SMALLEST).all():
            counts["outside"] += 1
            continue
        counts["clipped"] += bool(np.abs(inside - box).max() > 1)  # by rounding, boxes often miss the edge by less
        boxes.append(inside)
        labels.append(one["category_id"])
        segments.append(one.get("segmentation"))
    return Picture(
        image.id, image.file, width, height, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
        tuple(segments), image.upright,
    )  # fmt: skip
