"""Objects in pictures as COCO's json describes them: read, checked, and with category ids that need not be contiguous.

Other layouts are brought into this form first, so that training, evaluation and predictions know one form only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.errors import InputError, MissingFileError

Segmentation = list[list[float]] | dict[str, Any]  # polygons, or run lengths
SMALLEST = 1e-3  # pixels; a box with a shorter side holds nothing


@dataclass(frozen=True)
class Picture:
    """One picture and what is in it.

    Attributes:
        id: Of the image in the json.
        file: Where it is.
        width, height: In pixels, as the json says.
        boxes: (N, 4) float32 of x1, y1, x2, y2 in pixels, inside the picture.
        labels: (N,) int64, indices of `Coco.classes`.
        segments: N polygons or run lengths; None where an annotation has no outline.
    """

    id: int
    file: Path
    width: int
    height: int
    boxes: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    segments: tuple[Segmentation | None, ...]


@dataclass(frozen=True)
class Coco:
    """The pictures of one json.

    Attributes:
        name: Of the json, for messages.
        classes: Names, in the order of their ids.
        category_ids: What the json calls each of them.
        pictures: In the json's order; those without objects are there too.
        truth: The json for an evaluator: annotations numbered from 1, each with area and iscrowd.
        notes: What was left out or clipped, with counts, a line each.
    """

    name: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    pictures: tuple[Picture, ...]
    truth: dict[str, Any]
    notes: tuple[str, ...]


def read_coco(file: str | Path, folder: str | Path) -> Coco:
    """Read a json of COCO's format.

    Args:
        file: The json.
        folder: What its file names begin at.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: it is not of this format; the message names the first mistake.
    """
    file, folder = Path(file), Path(folder)
    if not file.is_file():
        raise MissingFileError(f"no annotations at {file}; give data.root, data.train_json and data.val_json")
    if not folder.is_dir():
        raise MissingFileError(f"no images at {folder}; give data.root, data.train_images and data.val_images")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from None
    return from_content(content, folder, str(file))


def from_content(content: Any, folder: Path, name: str) -> Coco:
    """COCO's json, once read, as checked pictures.

    Raises:
        ValueError: as `read_coco`.

    Example:
        >>> image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
        >>> box = {"image_id": 7, "category_id": 90, "bbox": [80, 10, 40, 20]}
        >>> coco = from_content(
        ...     {"images": [image], "annotations": [box], "categories": [{"id": 90, "name": "cat"}]}, Path(), "a.json"
        ... )
        >>> coco.pictures[0].boxes.tolist(), coco.notes
        ([[80.0, 10.0, 100.0, 30.0]], ('a.json: 1 box reaches beyond its image and is clipped',))
    """
    try:
        images = {image["id"]: image for image in content["images"]}
        categories = sorted(content["categories"], key=lambda category: category["id"])
        ids = tuple(int(category["id"]) for category in categories)
        classes = tuple(str(category["name"]) for category in categories)
        annotations = [_completed(number, one) for number, one in enumerate(content["annotations"], 1)]
        sizes = {key: (int(image["width"]), int(image["height"])) for key, image in images.items()}
        names = {key: str(image["file_name"]) for key, image in images.items()}
    except KeyError as error:
        raise InputError(f"{name} is not in COCO's format: {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not in COCO's format: {error}") from None
    if not ids or not images:
        raise InputError(f"{name} has {len(images)} images and {len(ids)} categories; a data set needs both")
    if len(set(ids)) < len(ids):
        raise InputError(f"{name}: two categories have the same id")
    by_image: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for one in annotations:
        _check(one, sizes, ids, name)
        by_image[one["image_id"]].append(one)
    counts = dict.fromkeys(NOTES, 0)
    pictures = tuple(
        _picture(key, folder / names[key], sizes[key], by_image[key], ids, counts) for key in images
    )  # fmt: skip
    notes = tuple(f"{name}: {count} {NOTES[what][count > 1]}" for what, count in counts.items() if count)
    truth = {"info": {}, "images": list(images.values()), "annotations": annotations, "categories": categories}
    return Coco(name, classes, ids, pictures, truth, notes)


NOTES = {
    "clipped": ("box reaches beyond its image and is clipped", "boxes reach beyond their images and are clipped"),
    "outside": ("box is outside its image, or empty, and is left out",
                "boxes are outside their images, or empty, and are left out"),
}  # fmt: skip


def _completed(number: int, annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation with what evaluators need; they take the number 0 for "no match"."""
    _, _, width, height = (float(value) for value in annotation["bbox"])
    complete = {"iscrowd": 0, "area": width * height} | annotation
    return complete | {"id": number, "image_id": annotation["image_id"], "category_id": annotation["category_id"]}


def _check(annotation: dict[str, Any], sizes: dict[int, tuple[int, int]], ids: tuple[int, ...], name: str) -> None:
    """Whether an annotation's image, category and mask fit the rest of the json."""
    where = f"{name}: annotation {annotation['id']}"
    size = sizes.get(annotation["image_id"])
    if size is None:
        raise InputError(f"{where} is of image {annotation['image_id']}, which is not among its images")
    if annotation["category_id"] not in ids:
        raise InputError(f"{where} is of category {annotation['category_id']}, and the categories are {ids}")
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict) and tuple(segmentation["size"]) != size[::-1]:
        height, width = segmentation["size"]
        raise InputError(
            f"{where} has a mask of {width}x{height} pixels, and its image has {size[0]}x{size[1]}; make them equal"
        )
    if isinstance(segmentation, list) and any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        raise InputError(f"{where} has a polygon of fewer than three points, or of half a point; correct or remove it")


def _picture(
    key: int, file: Path, size: tuple[int, int], annotations: list[dict[str, Any]], ids: tuple[int, ...],
    counts: dict[str, int],
) -> Picture:  # fmt: skip
    """What there is to learn of an image: its objects, without crowds."""
    boxes, labels, segments = [], [], []
    for one in annotations:
        if one["iscrowd"]:
            continue
        x, y, width, height = (float(value) for value in one["bbox"])
        box = np.array([x, y, x + width, y + height])
        inside = np.clip(box, 0, [*size, *size])
        if not (inside[2:] - inside[:2] > SMALLEST).all():  # which a NaN is not, either
            counts["outside"] += 1
            continue
        counts["clipped"] += bool(np.abs(inside - box).max() > 1)  # by rounding, boxes often miss the edge by less
        boxes.append(inside)
        labels.append(ids.index(one["category_id"]))
        segments.append(one.get("segmentation") or None)
    return Picture(
        key, file, *size, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), tuple(segments)
    )


def decode(segmentation: Segmentation, height: int, width: int) -> np.ndarray[Any, Any]:
    """The pixels of an object: (height, width) of 0 and 1, uint8.

    Example:
        >>> decode([[0, 0, 2, 0, 2, 1, 0, 1]], 2, 3).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    from faster_coco_eval import mask

    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return mask.decode(segmentation)  # compressed already
    runs = mask.frPyObjects(segmentation, height, width)
    return mask.decode(mask.merge(runs) if isinstance(runs, list) else runs)


def encode(masks: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Run lengths of masks (N, height, width), as JSON holds them."""
    from faster_coco_eval import mask

    runs = mask.encode(np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0)))
    return [{"size": list(run["size"]), "counts": _text(run["counts"])} for run in runs]


def _text(counts: str | bytes) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts
