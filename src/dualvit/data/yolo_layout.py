"""The YOLO layout (data.yaml, images/, labels/*.txt with boxes or polygons), brought into COCO's form."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import Coco, from_content
from dualvit.data.images import SUFFIXES, UnreadableError, pictures_in, size_of
from dualvit.errors import InputError, MissingFileError
from dualvit.files import read_yaml

Pair = tuple[Path, Path]
FAR = 2.0  # a coordinate beyond it is no share of a side that is a little too large, but a number of pixels


def read_pairs(file: str | Path, split: str) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Read a data.yaml: the names of its classes, and the pictures of a split, each with its label file.

    Args:
        file: `train` and `val` name folders of images, text files that list images, or lists of these, from `path` on,
            or from the file's folder; `names` are the classes, or `nc` their number. A path with the last `images`
            replaced by `labels` leads to an image's text file, which need not exist.
        split: train or val.

    Raises:
        FileNotFoundError: no such file or folder, or no images in it.
        ValueError: no split or no names, or `names` that are not those of the classes 0, 1, 2, ...
    """
    file = Path(file)
    if not file.is_file():
        raise MissingFileError(f"no data set at {file}; name a data.yaml, or a folder that has one")
    content = read_yaml(file)
    if not content.get(split):
        raise InputError(f"{file} has no {split}; it needs train, val and names")
    root = file.parent / content.get("path", "")
    places = content[split] if isinstance(content[split], list) else [content[split]]
    pictures = [picture for place in places for picture in _listed(root / str(place))]
    return _classes(file, content), tuple((picture, _label_file(picture)) for picture in pictures)


def _classes(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if not names and isinstance(count, int) and count > 0:
        names = [f"class_{index}" for index in range(count)]  # Ultralytics' names
    if not names:
        raise InputError(f"{file} has no names; it needs train, val and names, such as names: [cell]")
    if isinstance(names, dict):
        try:
            named = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError):
            named = {}
        if sorted(named) != list(range(len(names))):
            raise InputError(f"{file} has names for {', '.join(map(str, names))}; number them 0 to {len(names) - 1}")
        names = [named[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{file} has names {names!r}; give a list of classes, such as names: [cell]")
    if count is not None and count != len(names):
        raise InputError(f"{file} has nc {count} and {len(names)} names; make them equal, or leave nc out")
    return tuple(map(str, names))


def read_objects(file: Path, classes: int) -> Iterator[tuple[int, int, list[float]]]:
    """The line number, class and coordinates of each object in a label file; none where there is no file.

    Raises:
        ValueError: a line is malformed, or its class is not in the data set.
    """
    lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            label, *numbers = map(float, line.split())
        except ValueError:
            raise InputError(f"{where} is no polygon or box: {line[:60]!r} is not made of numbers") from None
        if not 0 <= label < classes or label != int(label):
            raise InputError(f"{where} has class {label:g}; data.yaml names 0 to {classes - 1}")
        for value in numbers:
            if not math.isfinite(value) or abs(value) > FAR:
                raise InputError(f"{where} has the coordinate {value:g}; give shares of width and height, 0 to 1")
        yield number, int(label), numbers


def read_yolo(file: str | Path, split: str) -> Coco:
    """Read one split of a data set in the YOLO layout.

    Args:
        file: Its data.yaml, as for `read_pairs`. Without a text file, an image has no objects.
        split: train or val.

    Raises:
        FileNotFoundError: no such file or folder, or no images in it.
        ValueError: `read_pairs` has one, or a line of a text file is malformed; the message names it.
    """
    file = Path(file)
    classes, pairs = read_pairs(file, split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (picture, labels) in enumerate(pairs, 1):
        image = {"id": number, "file_name": str(picture), "width": 1, "height": 1}
        try:
            width, height = size_of(picture)
        except UnreadableError:  # listed all the same: whoever loads it will note that it cannot be read
            images.append(image)
            continue
        images.append(image | {"width": width, "height": height})
        objects = _objects(labels, width, height, len(classes))
        annotations += [{"image_id": number, **one} for one in objects]
    categories = [{"id": key, "name": name} for key, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_content(content, Path(), f"{file.parent.name} {split}")


def _listed(place: Path) -> list[Path]:
    """The images of a folder, or those that a text file lists."""
    if place.is_file():
        listed = [place.parent / line.strip() for line in place.read_text().splitlines() if line.strip()]
    elif place.is_dir():
        listed = pictures_in(place)
    else:
        raise MissingFileError(f"no images at {place}; correct train and val in data.yaml")
    if not listed:
        raise MissingFileError(f"no images in {place}; expected one of {', '.join(sorted(SUFFIXES))}")
    return listed


def _label_file(picture: Path) -> Path:
    """Where the objects of an image are: `labels` instead of the last `images`."""
    parts = list(picture.parts)
    folders = [index for index, part in enumerate(parts) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _objects(file: Path, width: int, height: int, classes: int) -> list[dict[str, Any]]:
    """The objects of a text file, in pixels: a class and a box (centre, size), or a class and a polygon, a line."""
    listed = []
    for number, label, numbers in read_objects(file, classes):
        if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
            raise InputError(f"{file}, line {number}: {len(numbers)} numbers; a box has 4 and a polygon 6, 8, 10, ...")
        listed.append({"category_id": label} | _shape(np.array(numbers), width, height))
    return listed


def _shape(numbers: Any, width: int, height: int) -> dict[str, Any]:
    if len(numbers) == 4:
        (x, y), (w, h) = numbers[:2] * (width, height), numbers[2:] * (width, height)
        return {"bbox": [float(x - w / 2), float(y - h / 2), float(w), float(h)]}
    points = numbers.reshape(-1, 2) * (width, height)
    corner, far = points.min(0), points.max(0)
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    box = [*map(float, corner), *map(float, far - corner)]
    return {"bbox": box, "segmentation": [points.reshape(-1).tolist()], "area": area}
