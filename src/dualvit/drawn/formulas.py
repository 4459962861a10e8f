"""Shapes by formulas, which need no photographs and no licence: closed waves and polygons, nested and coloured.

Each class is a formula: after the visual atoms of Takashima et al. (arXiv 2303.01112), orbits whose radius is a sum of
waves, and the contours of Kataoka et al. (arXiv 2206.09132), nested polygons. A picture draws its formula at a place,
size, turn and colours of its own, on a ground of other shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dualvit.drawn.scenes import Floats, Rng, random_colour
from dualvit.drawn.textures import blotches

DISTANCE = 0.08  # between the courses of distinct formulas
POINTS = 240  # of an orbit
FINER = 2  # drawn at twice the size, since PIL's own edges are jagged

Colour = tuple[int, ...]
Points = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Formula:
    """The shape of a class.

    Attributes:
        rings: How many copies of the outline are nested, itself included.
        corners: Of a polygon; 0 for a smooth orbit.
        waves: Their frequency per turn, and their height as a share of the radius.
        stretch: Height by width.
        twist: By how many radians each ring is turned against the one around it.
    """

    rings: int
    corners: int
    waves: tuple[tuple[int, float], ...]
    stretch: float
    twist: float

    @classmethod
    def of(cls, label: int) -> "Formula":
        """Return the formula of a class.

        Example:
            >>> Formula.of(7) == Formula.of(7), Formula.of(7) == Formula.of(8)
            (True, False)
        """
        rng = np.random.default_rng(label)
        rings = int(rng.integers(1, 9))
        corners = int(rng.integers(3, 13)) if rng.random() < 0.4 else 0
        waves = tuple((int(rng.integers(2, 21)), rng.uniform(0.03, 0.25)) for _ in range(rng.integers(1, 4)))
        return cls(rings, corners, waves, rng.uniform(0.5, 1.0), rng.uniform(-0.5, 0.5))

    def outlines(self, radius: float, turn: float, rng: Rng) -> list[Points]:
        """Return the outline of each ring about the origin, the outermost first, each (points, 2) as x and y.

        Args:
            radius: Of the outermost ring without its waves.
            turn: Radians.
            rng: Moves the phases of the waves a little.
        """
        angle = np.linspace(0, 2 * np.pi, self.corners or POINTS, endpoint=False)
        outlines = []
        for ring in range(self.rings):
            reach = np.ones_like(angle)
            for frequency, height in self.waves:
                reach += height * np.sin(frequency * angle + rng.normal(0, 0.15))
            reach *= radius * (1 - ring / self.rings)
            x, y = reach * np.cos(angle), self.stretch * reach * np.sin(angle)
            cosine, sine = np.cos(turn + self.twist * ring), np.sin(turn + self.twist * ring)
            outlines.append(np.stack([cosine * x - sine * y, sine * x + cosine * y], 1))
        return outlines


@cache
def distinct(count: int) -> tuple[Formula, ...]:
    """Return the first formulas whose outlines differ clearly in their course around the centre.

    A larger count only adds formulas, so the first ones stay.

    Example:
        >>> distinct(20)[:5] == distinct(5)
        True
    """
    chosen: list[Formula] = []
    courses: list[Floats] = []
    label = 0
    while len(chosen) < count:
        formula, label = Formula.of(label), label + 1
        course = _course(formula)
        if all(np.linalg.norm(course - other) > DISTANCE for other in courses):
            chosen.append(formula)
            courses.append(course)
    return tuple(chosen)


def _course(formula: Formula) -> Floats:
    """Return how strongly the outline's radius swings at each frequency per turn; no turn changes it."""
    points = formula.outlines(1.0, 0.0, np.random.default_rng(0))[0]
    closed = np.concatenate([points, points[:1]])
    steps = np.linspace(0, len(points), 1000, endpoint=False)
    x, y = (np.interp(steps, np.arange(len(closed)), closed[:, axis]) for axis in (0, 1))
    angle, radius = np.unwrap(np.arctan2(y, x)), np.hypot(x, y)
    even = np.interp(np.linspace(0, 2 * np.pi, 256, endpoint=False), angle - angle[0], radius)
    swing = np.abs(np.fft.rfft(even))
    # By the root of the frequency: to the eye, a fifth lobe tells more than a twentieth spike.
    return np.asarray(2 * swing[1:32] / swing[0] / np.sqrt(np.arange(1, 32)), dtype=np.float32)


def draw_rings(image: Image.Image, outlines: list[Points], rng: Rng, fill: Callable[[], Colour | Image.Image]) -> None:
    """Draw outlines, the outermost first, each filled or a line.

    Args:
        image: RGB; drawn on.
        outlines: (points, 2), x and y in the image's pixels.
        rng: Decides which are lines, and how broad.
        fill: Gives a colour, or a picture of the image's size to show through the outline.
    """
    draw = ImageDraw.Draw(image)
    for points in outlines:
        corners, ink = [tuple(point) for point in points.tolist()], fill()
        if isinstance(ink, Image.Image):
            image.paste(ink, mask=silhouette(image.size, points))
        elif rng.random() < 0.7:
            draw.polygon(corners, fill=ink)
        else:
            width = max(1, round(max(image.size) * rng.uniform(0.004, 0.02)))
            draw.line([*corners, corners[0]], fill=ink, width=width)


def silhouette(size: tuple[int, int], points: Points) -> Image.Image:
    """Return a mask of mode L, width by height, with 255 inside an outline."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points.tolist()], fill=255)
    return mask


def ink_of(colour: Floats) -> Colour:
    """Return a colour as PIL takes it."""
    return tuple(int(value) for value in np.clip(colour, 0, 255))


def draw_formula(label: int, size: int, rng: Rng) -> Image.Image:
    """Return a picture of one formula, RGB of `size` by `size` pixels.

    Args:
        label: Which formula; it decides waves, corners and rings.
        size: Sides in pixels.
        rng: Decides place, size, turn, colours and ground.

    Example:
        >>> one, other = (draw_formula(7, 64, np.random.default_rng(0)) for _ in range(2))
        >>> one.size, one.tobytes() == other.tobytes()
        ((64, 64), True)
    """
    side = FINER * size
    image = Image.fromarray(_ground(rng, side))
    others = rng.integers(0, 1 << 20, rng.integers(0, 5))  # of no class: what is beside an object
    for each, low, high in (*((int(other), 0.05, 0.15) for other in others), (label, 0.18, 0.42)):
        centre, radius = rng.uniform(0.25, 0.75, 2) * side, side * rng.uniform(low, high)
        outlines = Formula.of(each).outlines(radius, rng.uniform(0, 2 * np.pi), rng)
        draw_rings(image, [points + centre for points in outlines], rng, lambda: ink_of(random_colour(rng)))
    return image.reduce(FINER).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def _ground(rng: Rng, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a ground between two colours: blotches of a size of its own, with grain."""
    first, second = random_colour(rng), random_colour(rng)
    mix = blotches(rng, (side, side), side / int(rng.integers(2, 24)))[..., None]
    grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(rng.uniform(0, 12))
    return np.clip(first * mix + second * (1 - mix) + grain, 0, 255).astype(np.uint8)
