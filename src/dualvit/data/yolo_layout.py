"""The YOLO layout (data.yaml, images/, labels/*.txt with boxes or polygons), brought into COCO's form."""

from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import Coco, from_content, size_of
from dualvit.data.images import SUFFIXES
from dualvit.files import at_limit, read_yaml


def read_yolo(file: str | Path, split: str) -> Coco:
    """Read one split of a data set in the YOLO layout.

    Args:
        file: Its data.yaml: `train` and `val` name folders of images, `names` the classes; a path with the last
            `images` replaced by `labels` leads to an image's text file. Without one, an image has no objects.
        split: train or val.

    Raises:
        FileNotFoundError: no such file or folder, or no images in it.
        ValueError: a line of a text file is malformed; the message names it.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no data set at {file}; name a data.yaml, or a folder that has one")
    content = read_yaml(file)
    for key in (split, "names"):
        if not content.get(key):
            raise ValueError(f"{file} has no {key}; it needs train, val and names")
    names = content["names"]
    classes = (
        dict(enumerate(names)) if isinstance(names, list) else {int(key): str(name) for key, name in names.items()}
    )
    root = file.parent / content.get("path", "")
    places = content[split] if isinstance(content[split], list) else [content[split]]
    pictures = [picture for place in places for picture in _listed(root / place)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        image = {"id": number, "file_name": str(picture), "width": 1, "height": 1}
        try:
            width, height = size_of(picture)
        except OSError as error:  # listed all the same: whoever loads it will note that it cannot be read
            if at_limit(error):
                raise
            images.append(image)
            continue
        images.append(image | {"width": width, "height": height})
        found = _objects(_label_file(picture), width, height, classes)
        annotations += [{"image_id": number, **one} for one in found]
    categories = [{"id": key, "name": name} for key, name in classes.items()]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    return from_content(whole, Path(), f"{file.parent.name} {split}")


def _listed(place: Path) -> list[Path]:
    """The images of a folder, or those that a text file lists."""
    if place.is_file():
        found = [place.parent / line.strip() for line in place.read_text().splitlines() if line.strip()]
    elif place.is_dir():
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    else:
        raise FileNotFoundError(f"no images at {place}; correct train and val in data.yaml")
    if not found:
        raise FileNotFoundError(f"no images in {place}; expected one of {', '.join(sorted(SUFFIXES))}")
    return found


def _label_file(picture: Path) -> Path:
    """Where the objects of an image are: `labels` instead of the last `images`."""
    parts = list(picture.parts)
    folders = [index for index, part in enumerate(parts) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _objects(file: Path, width: int, height: int, classes: dict[int, str]) -> list[dict[str, Any]]:
    """The objects of a text file, in pixels: a class and a box (centre, size), or a class and a polygon, a line."""
    if not file.is_file():
        return []
    found = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise ValueError(f"{file}, line {number}: {line[:60]!r} is not made of numbers") from None
        label, numbers = int(values[0]), np.array(values[1:])
        if label not in classes:
            raise ValueError(f"{file}, line {number}: class {label} is not among the names 0 to {len(classes) - 1}")
        if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
            raise ValueError(f"{file}, line {number}: {len(numbers)} numbers; a box has 4 and a polygon 6, 8, 10, ...")
        found.append({"category_id": label} | _shape(numbers, width, height))
    return found


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
