"""What is wrong with the objects of a picture: outside, empty, tiny, twice, of two classes, or crossing themselves."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dualvit.doctor.findings import Finding
from dualvit.doctor.sets import Item, Thing

OVER = 1.0  # pixels by which rounding may put a box over the edge
LEAST = 1e-3  # pixels; a shorter side holds nothing
TINY = 4  # pixels at the chosen image size
TOUCH = 0.05  # pixels from a line on which a point still lies: labels are rounded
SAME, CLASH = 0.95, 0.9  # IoU of two boxes of one class that are the same object, and of two classes
Array = np.ndarray[Any, Any]


def in_pixels(item: Item, width: int, height: int) -> None:
    """Turn an item's shares of the sides into pixels."""
    scale = np.array([width, height], float)
    item.things = [
        Thing(
            one.label, tuple((np.array(one.box) * [*scale, *scale]).tolist()),
            None if one.outline is None else one.outline * scale, one.place, one.segmentation,
        )
        for one in item.things
    ]  # fmt: skip


def ious(a: Array, b: Array) -> Array:
    """Return the IoU of boxes (N, 4) with boxes (M, 4): (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)  # (N, M)
    area_a, area_b = (np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (a, b))
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-12)


def check(item: Item, size: tuple[int, int], classes: Sequence[str], image_size: int) -> Iterator[Finding]:
    """Yield what is wrong with the objects of a picture.

    Args:
        item: The picture; its objects are in pixels.
        size: Its width and height.
        classes: Names.
        image_size: The longer side at which the network will see it.
    """
    if not item.things:
        return
    boxes = np.array([one.box for one in item.things])  # (N, 4)
    yield from _places(item, boxes, size, image_size)
    yield from _pairs(item, boxes, classes)
    for one in item.things:
        if one.outline is not None and crosses(one.outline):
            yield Finding(
                "crossing", f"{_where(item, one)}: the outline crosses itself", (item.file,), item.split, (one.box,)
            )


def without_outline(item: Item) -> Iterator[Finding]:
    """Yield the objects of a picture that have a box and no outline."""
    for one in item.things:
        if one.outline is None and not one.segmentation:
            yield Finding("without-outline", f"{_where(item, one)} is a box", (item.file,), item.split, (one.box,))


def _where(item: Item, one: Thing) -> str:
    return f"{item.source}, {one.place}" if item.source.suffix == ".txt" else f"{item.file.name}, {one.place}"


def _places(item: Item, boxes: Array, size: tuple[int, int], image_size: int) -> Iterator[Finding]:
    width, height = size
    sides = boxes[:, 2:] - boxes[:, :2]
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - [width, height]).max(1)
    short = sides.min(1) * image_size / max(size)
    for one, side, beyond, small in zip(item.things, sides, over, short, strict=True):
        if not (side > LEAST).all():
            what = f"is {side[0]:.3g} pixels wide and {side[1]:.3g} high"
            yield Finding("empty", f"{_where(item, one)} {what}", (item.file,), item.split, (one.box,))
            continue
        if beyond > OVER:
            what = f"reaches {beyond:.0f} pixels beyond the {width}x{height} of {item.file.name}"
            yield Finding("outside", f"{_where(item, one)} {what}", (item.file,), item.split, (one.box,))
        if small < TINY:
            what = f"is {side.min():.1f} pixels short, and {small:.1f} at image size {image_size}"
            yield Finding("tiny", f"{_where(item, one)} {what}", (item.file,), item.split, (one.box,))


def _pairs(item: Item, boxes: Array, classes: Sequence[str]) -> Iterator[Finding]:
    labels = np.array([one.label for one in item.things])
    close = np.triu(ious(boxes, boxes) >= min(SAME, CLASH), 1)
    for left, right in np.argwhere(close).tolist():
        a, b = item.things[left], item.things[right]
        overlap = float(ious(boxes[left : left + 1], boxes[right : right + 1])[0, 0])
        if labels[left] == labels[right] and overlap >= SAME:
            what, kind = f"and {b.place}: {classes[a.label]} twice, IoU {overlap:.2f}", "duplicate-object"
        elif labels[left] != labels[right]:
            what, kind = f"is {classes[a.label]} and {b.place} {classes[b.label]}, IoU {overlap:.2f}", "two-classes"
        else:
            continue
        yield Finding(kind, f"{_where(item, a)} {what}", (item.file,), item.split, (a.box, b.box))


def crosses(outline: Array) -> bool:
    """Return whether two sides of a polygon (P, 2) cross each other; to touch is no crossing.

    Example:
        >>> crosses(np.array([[0, 0], [1, 0], [1, 1], [0, 1]])), crosses(np.array([[0, 0], [1, 1], [1, 0], [0, 1]]))
        (False, True)
    """
    a, b = outline, np.roll(outline, -1, 0)  # the ends of each side
    side = b - a

    def left(points: Array) -> Array:
        """Row i, column j: where point j is, seen along side i: above 0 is left of it."""
        gap = points[None] - a[:, None]
        turn = side[:, None, 0] * gap[..., 1] - side[:, None, 1] * gap[..., 0]
        away = turn / np.maximum(np.linalg.norm(side, axis=1), 1e-12)[:, None]
        return np.where(np.abs(away) > TOUCH, away, 0)

    apart = left(a) * left(b) < 0  # the ends of side j are on both sides of side i
    return bool((apart & apart.T).any())
