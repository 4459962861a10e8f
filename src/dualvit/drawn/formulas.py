"""Pictures by formulas, which need no photographs and no licence: closed waves and polygons, nested and coloured.

Each class is a formula: after the visual atoms of Takashima et al. (arXiv 2303.01112), orbits whose radius is a sum of
waves, and the contours of Kataoka et al. (arXiv 2206.09132), nested polygons. A picture draws its formula at a place,
size, turn and colours of its own, on a ground of other shapes.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dualvit.drawn.scenes import Rng, random_colour

POINTS = 240  # of an orbit
FINER = 2  # drawn at twice the size, since PIL's own edges are jagged


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
    draw = ImageDraw.Draw(image)
    for other in rng.integers(0, 1 << 20, rng.integers(0, 5)):  # of no class: what is beside an object
        _orbits(draw, int(other), side * rng.uniform(0.05, 0.15), side, rng)
    _orbits(draw, label, side * rng.uniform(0.18, 0.42), side, rng)
    image = image.reduce(FINER)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def _orbits(draw: ImageDraw.ImageDraw, label: int, radius: float, side: int, rng: Rng) -> None:
    """Draw the rings of a formula, the outermost first, each filled or a line."""
    formula = np.random.default_rng(label)
    rings = int(formula.integers(1, 9))
    corners = int(formula.integers(3, 13)) if formula.random() < 0.4 else 0
    waves = [(int(formula.integers(2, 21)), formula.uniform(0.03, 0.25)) for _ in range(formula.integers(1, 4))]
    stretch, twist = formula.uniform(0.5, 1.0), formula.uniform(-0.5, 0.5)
    centre, turn = rng.uniform(0.25, 0.75, 2) * side, rng.uniform(0, 2 * np.pi)
    for ring in range(rings):
        angle = np.linspace(0, 2 * np.pi, corners or POINTS, endpoint=False)
        reach = np.ones_like(angle)
        for frequency, height in waves:
            reach += height * np.sin(frequency * angle + rng.normal(0, 0.15))
        reach *= radius * (1 - ring / rings)
        x, y = reach * np.cos(angle), stretch * reach * np.sin(angle)
        cosine, sine = np.cos(turn + twist * ring), np.sin(turn + twist * ring)
        points = np.stack([cosine * x - sine * y, sine * x + cosine * y], 1) + centre
        corner = [tuple(point) for point in points.tolist()]
        ink = tuple(int(value) for value in random_colour(rng))
        if rng.random() < 0.7:
            draw.polygon(corner, fill=ink)
        else:
            draw.line([*corner, corner[0]], fill=ink, width=max(1, round(side * rng.uniform(0.004, 0.02))))


def _ground(rng: Rng, side: int) -> np.ndarray:
    """Return a ground between two colours: blotches of a size of its own, with grain."""
    first, second = random_colour(rng), random_colour(rng)
    cells = int(rng.integers(2, 24))
    blotches = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    mix = np.asarray(blotches.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255
    grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(rng.uniform(0, 12))
    return np.clip(first * mix + second * (1 - mix) + grain, 0, 255).astype(np.uint8)
