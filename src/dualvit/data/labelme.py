"""LabelMe's json, a file per picture: polygons and rectangles."""

import json
from typing import Any

import numpy as np

from dualvit.errors import InputError

POLYGON, RECTANGLE = "polygon", "rectangle"


def read_annotation(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Read one annotation.

    Polygons of one label and one group number are the parts of one object.

    Returns:
        The picture's `file_name`, `width` and `height` (0 if they are not there); its objects: `name`, `bbox` and, of
        polygons, `segmentation` and `area`, in COCO's form; and a line for each shape that is left out.

    Raises:
        ValueError: it is no such annotation.

    Example:
        >>> shape = {"label": "cat", "points": [[0, 0], [4, 0], [4, 2]], "shape_type": "polygon"}
        >>> _, objects, left_out = read_annotation(json.dumps({"shapes": [shape]}).encode())
        >>> objects[0]["bbox"], objects[0]["area"], left_out
        ([0.0, 0.0, 4.0, 2.0], 4.0, [])
    """
    try:
        root = json.loads(content)
        image = {
            "file_name": str(root.get("imagePath") or "").replace("\\", "/"),
            "width": int(root.get("imageWidth") or 0),
            "height": int(root.get("imageHeight") or 0),
        }
        shapes = [(str(shape["label"]), shape.get("group_id"), *_outline(shape)) for shape in root["shapes"]]
    except KeyError as error:
        raise InputError(f"it is no json of LabelMe: {error} is missing") from None
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"it is no json of LabelMe: {error}") from None
    objects: dict[tuple[str, object], dict[str, Any]] = {}
    left_out = []
    for number, (label, group, kind, points) in enumerate(shapes):
        if points is None:
            left_out.append(f"{kind} are left out")
        elif kind == RECTANGLE:
            objects[label, (number,)] = {"name": label, "bbox": _bounds(points)}
        else:
            one = objects.setdefault(
                (label, (number,) if group is None else str(group)), {"name": label, "segmentation": [], "area": 0.0}
            )
            one["segmentation"].append(points.reshape(-1).tolist())
            one["area"] += _area(points)
    for one in objects.values():
        if "segmentation" in one:
            one["bbox"] = _bounds(np.concatenate(one["segmentation"]).reshape(-1, 2))
    return image, list(objects.values()), left_out


def _outline(shape: dict[str, Any]) -> tuple[str, np.ndarray[Any, Any] | None]:
    """The kind of a shape, and its points (N, 2); or what it is, and None, if it is no box and no polygon."""
    kind = str(shape.get("shape_type") or POLYGON)
    points = np.asarray(shape["points"], float).reshape(-1, 2)
    enough = {POLYGON: 3, RECTANGLE: 2}.get(kind)
    if enough is None:
        return f"shapes of the kind {kind}", None
    if len(points) < enough or not np.isfinite(points).all():
        return f"shapes of the kind {kind} with too few points, or with points that are no numbers,", None
    return kind, points


def _bounds(points: np.ndarray[Any, Any]) -> list[float]:
    corner = points.min(0)
    return [*map(float, corner), *map(float, points.max(0) - corner)]


def _area(points: np.ndarray[Any, Any]) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
