"""Objects' outlines and boxes as COCO's json writes them: checked, so that decoding one cannot fail later."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Segmentation = list[list[float]] | dict[str, Any]  # polygons, or run lengths
Size = tuple[int, int]  # width and height
NEAR = 1  # pixels by which sizes may differ: by rounding, they often do
FAR = 10  # sides of its picture that an outline may reach; drawing one takes memory by its length


class FaultError(Exception):
    """An image or an annotation that cannot be used; the message says why, and the rest is used all the same."""


def is_near(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes differ by a pixel at the most in each direction."""
    return all(abs(mine - yours) <= NEAR for mine, yours in zip(one, other, strict=True))


def number_of(value: Any) -> float:
    """A finite number, also from a text; NaN if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def checked_box(values: Any, segmentation: Segmentation | None) -> list[float]:
    """Return x, y, width and height; around the outline if no box is given.

    Raises:
        FaultError: they are not four numbers.
    """
    if not values and isinstance(segmentation, list):
        points = np.concatenate(segmentation).reshape(-1, 2)
        return [*map(float, points.min(0)), *map(float, np.ptp(points, 0))]
    if not values and segmentation:
        from faster_coco_eval import mask

        return [float(value) for value in mask.toBbox(_runs(segmentation, 0, 0))]
    box = [number_of(value) for value in values] if isinstance(values, list) else []
    if len(box) != 4 or any(map(math.isnan, box)):
        raise FaultError(f"has the bbox {str(values)[:60]}, which is not of four numbers")
    return box


def checked_outline(value: Any, size: Size, counts: Counter[str]) -> Segmentation | None:
    """Return an object's outline for a picture of a size; None if it has none.

    Args:
        value: Polygons, or run lengths, as the json has them.
        size: Of the picture.
        counts: Counts the outlines of which a part is left out, as "parts".

    Raises:
        FaultError: it cannot be drawn.
    """
    if not value:
        return None
    if isinstance(value, dict):
        return _checked_runs(value, size)
    if not isinstance(value, list):
        raise FaultError(f"has the segmentation {str(value)[:60]}, which is neither polygons nor run lengths")
    polygons = value if isinstance(value[0], list) else [value]  # one that stands alone
    kept = [points for polygon in polygons if (points := _polygon(polygon, size))]
    if not kept:
        raise FaultError("has a polygon of fewer than three points")
    counts["parts"] += len(kept) < len(polygons)
    return kept


def _polygon(values: Any, size: Size) -> list[float] | None:
    """x, y, x, y, ...; None if they are fewer than three points."""
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(())
    if points.ndim == 2 and points.shape[1] == 2:  # each point in brackets of its own
        points = points.ravel()
    if points.ndim != 1 or len(points) % 2:
        raise FaultError(f"has the polygon {str(values)[:60]}, which is not of pairs of numbers")
    if len(points) < 6:
        return None
    if not np.abs(points).max() <= FAR * max(size):  # which a NaN is not, either
        raise FaultError(f"has a polygon that reaches {np.abs(points).max():g}, and its image is {size[0]}x{size[1]}")
    found: list[float] = points.tolist()
    return found


def _checked_runs(value: dict[str, Any], size: Size) -> Segmentation | None:
    """Run lengths that can be decoded, of the size of their image."""
    try:
        height, width = (int(side) for side in value["size"])
        counts = value["counts"]
    except (KeyError, TypeError, ValueError):
        raise FaultError("has a mask without size or counts") from None
    if not is_near((width, height), size):
        raise FaultError(
            f"has a mask of {width}x{height} pixels, and its image has {size[0]}x{size[1]}; make them equal"
        )
    try:
        pixels = decode({"size": [height, width], "counts": counts}, height, width)
    except (ValueError, RuntimeError, TypeError) as error:
        raise FaultError(f"has a mask that cannot be decoded: {str(error).splitlines()[0][:80]}") from None
    if not pixels.any():
        return None
    if (width, height) == size:
        return {"size": [height, width], "counts": counts}
    fitted = np.zeros((size[1], size[0]), np.uint8)
    inside = pixels[: size[1], : size[0]]
    fitted[: inside.shape[0], : inside.shape[1]] = inside
    return encode(fitted[None])[0]


def decode(segmentation: Segmentation, height: int, width: int) -> np.ndarray[Any, Any]:
    """The pixels of an object: (height, width) of 0 and 1, uint8.

    Example:
        >>> decode([[0, 0, 2, 0, 2, 1, 0, 1]], 2, 3).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    from faster_coco_eval import mask

    return mask.decode(_runs(segmentation, height, width))


def _runs(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Compressed run lengths."""
    from faster_coco_eval import mask

    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return segmentation  # compressed already
    runs = mask.frPyObjects(segmentation, height, width)
    joined: dict[str, Any] = mask.merge(runs) if isinstance(runs, list) else runs
    return joined


def encode(masks: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Run lengths of masks (N, height, width), as JSON holds them."""
    from faster_coco_eval import mask

    runs = mask.encode(np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0)))
    return [{"size": list(run["size"]), "counts": _text(run["counts"])} for run in runs]


def _text(counts: str | bytes) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts
