"""Polygons: around a mask, of several parts in one line, and of a picture that is turned."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualvit.data.images import SIDEWAYS
from dualvit.errors import MissingExtraError

Points = np.ndarray[Any, Any]  # (N, 2) of x and y in pixels


def rings(mask: Points) -> list[Points]:
    """Return the closed lines around the parts of a mask and around their holes, halfway between pixels.

    Args:
        mask: (H, W), 1 where the object is.

    Raises:
        ModuleNotFoundError: contourpy is not installed; it comes with matplotlib.

    Example:
        >>> [ring.tolist() for ring in rings(np.ones((1, 2)))]
        [[[0.0, 0.5], [0.5, 0.0], [1.5, 0.0], [2.0, 0.5], [1.5, 1.0], [0.5, 1.0]]]
    """
    try:
        from contourpy import contour_generator
    except ModuleNotFoundError:
        raise MissingExtraError("outlines need contourpy, which comes with dualvit[recipes]; install it") from None
    lines = contour_generator(z=np.pad(mask.astype(float), 1)).lines(0.5)
    return [_corners(np.asarray(line, float)[:-1] - 0.5) for line in lines]  # a centre is at 0.5; the padding, 1


def _corners(points: Points) -> Points:
    """A ring without the points on its straight lines."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def joined(parts: Sequence[Points]) -> Points:
    """Return one polygon that covers what several do: bridges without width lead from each to its nearest neighbour.

    Example:
        >>> a, b = np.array([[0, 0], [1, 0], [1, 1]]), np.array([[2, 0], [3, 0], [3, 1]])
        >>> joined([a, b]).tolist()
        [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [2, 0], [1, 0], [1, 1]]
    """
    whole = parts[0]
    for part in parts[1:]:
        distances = np.square(whole[:, None] - part[None]).sum(-1)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        whole = np.concatenate([whole[: here + 1], part[there:], part[: there + 1], whole[here:]])
    return whole


def upright(points: Points, orientation: int, width: int, height: int) -> Points:
    """Return where points of a stored photograph are in the upright one.

    Args:
        points: In the stored pixels.
        orientation: Of EXIF; below 5, width and height stay, and so do the points.
        width, height: Of the stored photograph.

    Example:
        >>> upright(np.array([[10.0, 0.0]]), 6, 96, 64).tolist()  # the upper edge becomes the right one
        [[64.0, 10.0]]
    """
    if orientation not in SIDEWAYS:
        return points
    x, y = points.T
    across = height - y if orientation in (6, 7) else y
    down = width - x if orientation in (7, 8) else x
    return np.stack([across, down], 1)
