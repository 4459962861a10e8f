"""Pictures whose evidence is known: what decides the class is drawn at a place that is kept as a mask.

Three kinds. *planted*: a small glyph beside the middle of a large object decides, and the object tells nothing.
*occlusion*: the pattern of an object decides, and a bar hides half of it. *colour*: the colour of a disc on an object
decides, and the other parts have the same colours at random.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dualvit.drawn.scenes import SPLITS, Floats, Mask, Rng, filtered, ramp
from dualvit.errors import InputError

FINER = 4  # times as many pixels while shapes are drawn, because PIL's own edges are jagged
MARGIN = 1.5  # pixels around what decides that count as it: there the edge is
Point = tuple[float, float]


@dataclass(frozen=True)
class Cued:
    """A picture of one class, with its evidence.

    Attributes:
        image: (size, size, 3).
        label: The class.
        evidence: Which pixels decide it, (size, size).
        without: The same picture, in which nothing tells the class.
    """

    image: NDArray[np.uint8]
    label: int
    evidence: Mask
    without: NDArray[np.uint8]


@dataclass(frozen=True)
class Cue:
    """A kind of pictures.

    Attributes:
        classes: Their names.
        draw: Draws a picture of a class by a generator, at a size.
    """

    classes: tuple[str, ...]
    draw: Callable[[Rng, int, int], Cued]


class Sheet:
    """A picture in the making, with soft edges.

    Args:
        rng: Every choice comes from it.
        size: Height and width in pixels.
    """

    def __init__(self, rng: Rng, size: int) -> None:
        self.size = size
        first, second = (rng.uniform(70, 185, 3).astype(np.float32) for _ in range(2))
        mix = 0.5 + ramp(rng, (size, size), 0.5)[..., None]
        spots = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((size, size))
        self.pixels = first * mix + second * (1 - mix) + (np.asarray(spots, np.float32) - 128) * np.float32(0.2)

    def copy(self) -> "Sheet":
        """Return the same picture, to be painted on apart."""
        other = object.__new__(Sheet)
        other.size, other.pixels = self.size, self.pixels.copy()
        return other

    def cover(self, draw: Callable[[ImageDraw.ImageDraw], None]) -> Floats:
        """Return how much of each pixel a drawing covers, 0..1; it draws in white at FINER times the size."""
        image = Image.new("L", (FINER * self.size,) * 2)
        draw(ImageDraw.Draw(image))
        return np.asarray(image.reduce(FINER), np.float32) / np.float32(255)

    def paint(self, cover: Floats, colour: Floats) -> None:
        """Lay a colour, (3,) or (size, size, 3), over what is covered."""
        self.pixels += cover[..., None] * (colour - self.pixels)

    def finished(self, grain: Floats) -> NDArray[np.uint8]:
        """Return the picture with grain."""
        return np.clip(self.pixels + grain, 0, 255).astype(np.uint8)


def disc(centre: Point, radius: float) -> Callable[[ImageDraw.ImageDraw], None]:
    """Return what draws a disc."""
    return polygon([(centre[0] + radius * x, centre[1] + radius * y) for x, y in _circle(48)])


def polygon(points: list[Point]) -> Callable[[ImageDraw.ImageDraw], None]:
    """Return what draws a polygon."""
    return lambda draw: draw.polygon([(FINER * x, FINER * y) for x, y in points], fill=255)


def _circle(count: int, turn: float = 0.0) -> list[Point]:
    angles = [turn + 2 * math.pi * number / count for number in range(count)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _body(rng: Rng, centre: Point, radius: float) -> list[Point]:
    """A convex object: a polygon of three to seven corners, or a rounded one."""
    corners = int(rng.choice([3, 4, 5, 6, 7, 30]))
    stretch, turn = rng.uniform(0.85, 1.15), rng.uniform(0, 2 * math.pi)
    return [(centre[0] + radius * stretch * x, centre[1] + radius / stretch * y) for x, y in _circle(corners, turn)]


def _grain(rng: Rng, size: int) -> Floats:
    return rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(4)


def _around(cover: Floats) -> Mask:
    """What a cover touches, and a margin."""
    reach = 2 * math.ceil(MARGIN) + 1
    return filtered((cover > 0.05).astype(np.float32), ImageFilter.MaxFilter(reach)) > 0.5


# ---- planted


def _glyph(label: int, centre: Point, radius: float) -> Callable[[ImageDraw.ImageDraw], None]:
    """What draws the glyph of a class: a cross, a ring, or a bar."""
    x, y = (FINER * value for value in centre)
    r, thin = FINER * radius, FINER * radius * 0.3

    def draw(image: ImageDraw.ImageDraw) -> None:
        if label == 1:
            image.ellipse((x - r, y - r, x + r, y + r), fill=255)
            image.ellipse((x - 0.5 * r, y - 0.5 * r, x + 0.5 * r, y + 0.5 * r), fill=0)
            return
        image.rectangle((x - r, y - thin, x + r, y + thin), fill=255)
        if label == 0:
            image.rectangle((x - thin, y - r, x + thin, y + r), fill=255)

    return draw


def draw_planted(rng: Rng, label: int, size: int) -> Cued:
    """Draw a large object, and on its rim the small glyph that decides."""
    sheet, grain = Sheet(rng, size), _grain(rng, size)
    radius, small = size * rng.uniform(0.2, 0.28), size * 0.085
    centre = rng.uniform(0.36 * size, 0.64 * size, 2)
    sheet.paint(sheet.cover(polygon(_body(rng, tuple(centre), radius))), rng.uniform(40, 215, 3).astype(np.float32))
    angle = rng.uniform(0, 2 * math.pi)
    place = centre + radius * rng.uniform(0.7, 1.15) * np.array([math.cos(angle), math.sin(angle)])
    x, y = np.clip(place, small + 2, size - small - 2)
    without = sheet.copy()
    cover = sheet.cover(_glyph(label, (x, y), small))
    sheet.paint(cover, np.full(3, 250 if rng.random() < 0.5 else 5, np.float32))
    evidence = sheet.cover(disc((x, y), small + MARGIN)) > 0.5
    return Cued(sheet.finished(grain), label, evidence, without.finished(grain))


# ---- occlusion


def _pattern(rng: Rng, label: int, size: int) -> Floats:
    """Return the pattern of a class, 0 or 1: lines across, lines down, or checks, (size, size)."""
    period, phase = size * rng.uniform(0.09, 0.13), rng.uniform(0, 1, 2)
    rows, columns = (np.sin(2 * math.pi * (np.arange(size) / period + shift)) for shift in phase)
    across, down = np.broadcast_to(rows[:, None], (size, size)), np.broadcast_to(columns, (size, size))
    wave = (across, down, across * down * 2)[label]
    return np.clip(0.5 + 2 * wave, 0, 1).astype(np.float32)


def draw_occlusion(rng: Rng, label: int, size: int) -> Cued:
    """Draw an object with the pattern that decides, half of it under a bar."""
    sheet, grain = Sheet(rng, size), _grain(rng, size)
    radius = size * rng.uniform(0.26, 0.34)
    x, y = rng.uniform(0.4 * size, 0.6 * size, 2)
    cover = sheet.cover(polygon(_body(rng, (x, y), radius)))
    dark, light = rng.uniform(10, 90, 3).astype(np.float32), rng.uniform(165, 245, 3).astype(np.float32)
    without = sheet.copy()
    without.paint(cover, np.asarray((dark + light) / 2, np.float32))
    sheet.paint(cover, dark + _pattern(rng, label, size)[..., None] * (light - dark))
    thick = 1.3 * radius  # the bar goes from the object's middle beyond its edge
    edges = ((x - thick, 0, x, size), (x, 0, x + thick, size), (0, y - thick, size, y), (0, y, size, y + thick))
    left, top, right, bottom = edges[int(rng.integers(4))]
    bar = sheet.cover(polygon([(left, top), (right, top), (right, bottom), (left, bottom)]))
    colour = np.full(3, rng.uniform(30, 225), np.float32)
    for one in (sheet, without):
        one.paint(bar, colour)
    return Cued(sheet.finished(grain), label, (cover > 0.5) & (bar < 0.5), without.finished(grain))


# ---- colour

_PALETTE = np.array([[215, 40, 40], [40, 175, 60], [45, 75, 215]], np.float32)


def draw_colour(rng: Rng, label: int, size: int) -> Cued:
    """Draw an object with a disc on its rim, whose colour decides, and squares of the same colours beside it."""
    sheet, grain = Sheet(rng, size), _grain(rng, size)

    def colour(index: int) -> Floats:
        return _PALETTE[index] + rng.uniform(-25, 25, 3).astype(np.float32)

    radius, small = size * rng.uniform(0.17, 0.24), size * rng.uniform(0.085, 0.11)
    centre = rng.uniform(0.38 * size, 0.62 * size, 2)
    for _ in range(2):
        x, y = rng.uniform(0.08 * size, 0.92 * size, 2)
        half = size * rng.uniform(0.05, 0.09)
        square = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
        sheet.paint(sheet.cover(polygon(square)), colour(int(rng.integers(3))))
    turned = [(centre[0] + radius * x, centre[1] + radius * y) for x, y in _circle(4, rng.uniform(0, math.pi))]
    sheet.paint(sheet.cover(polygon(turned)), colour(int(rng.integers(3))))
    angle = rng.uniform(0, 2 * math.pi)
    place = centre + 0.9 * radius * np.array([math.cos(angle), math.sin(angle)])
    x, y = np.clip(place, small + 1, size - small - 1)
    rim, cover = sheet.cover(disc((x, y), small + size * 0.02)), sheet.cover(disc((x, y), small))
    sheet.paint(rim, np.full(3, 245, np.float32))
    without = sheet.copy()
    sheet.paint(cover, colour(label))
    without.paint(cover, np.full(3, 128, np.float32))
    return Cued(sheet.finished(grain), label, _around(cover), without.finished(grain))


CUES = {
    "planted": Cue(("cross", "ring", "bar"), draw_planted),
    "occlusion": Cue(("lines across", "lines down", "checks"), draw_occlusion),
    "colour": Cue(("red", "green", "blue"), draw_colour),
}


def draw_cue(kind: str, seed: int, split: str, index: int, size: int = 64) -> Cued:
    """Draw a picture of a kind; it depends on its arguments alone. Classes come in turn.

    Raises:
        ValueError: there is no such kind.

    Example:
        >>> cued = draw_cue("planted", seed=0, split="train", index=4)
        >>> cued.image.shape, cued.label, bool((cued.image != cued.without).any(2)[~cued.evidence].any())
        ((64, 64, 3), 1, False)
    """
    if kind not in CUES:
        raise InputError(f"no pictures of kind {kind!r} are drawn; give {', '.join(CUES)}")
    rng = np.random.default_rng([seed, 8 + SPLITS.index(split), list(CUES).index(kind), index])
    cue = CUES[kind]
    return cue.draw(rng, index % len(cue.classes), size)
