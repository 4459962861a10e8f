"""How a picture of digits is drawn: sources, clutter, glyphs, occlusion, and the hull of the visible part."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from dualvit.errors import MissingExtraError

SPLITS = ("train", "val")
SOURCE_VAL_FRACTION = 0.2  # of the source digits; apart from `val_fraction`, so that a picture never depends on it
MIN_VISIBLE = 0.55  # of a digit's own pixels
MIN_CONTRAST = 70.0  # in 0..255, against nine tenths of the pixels around the digit
CLASSIFY_SIZE = 64  # pixels
_HEIGHTS = (24, 140)  # pixels at size 320
_MIN_HEIGHT = 12.0  # pixels at any size; below it not even the 8x8 source is legible
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """A picture and its objects.

    Attributes:
        image: (size, size, 3), 0..255.
        classes: The class of each object, such as its digit.
        masks: Each object's visible pixels, (size, size).
    """

    image: NDArray[np.uint8]
    classes: list[int]
    masks: list[Mask]

    def rows(self) -> list[str]:
        """Return label rows: the class, then the polygon x1 y1 x2 y2 ... in 0..1 of the picture."""
        return [
            " ".join([str(label), *(f"{value:.6f}" for value in self.polygon(mask).ravel())])
            for label, mask in zip(self.classes, self.masks, strict=True)
        ]

    def polygon(self, mask: Mask) -> NDArray[np.float64]:
        """Return the polygon of a mask, (points, 2) as x and y in 0..1: its convex hull."""
        return hull(mask) / len(self.image)


@dataclass(frozen=True)
class Glyph:
    """A posed digit; all three arrays have its height and width.

    Attributes:
        fill: How much of each pixel the stroke covers, 0..1.
        outer: The same with the outline.
        ring: The pixels just around it, which its colour must stand out from.
    """

    fill: Floats
    outer: Floats
    ring: Mask


@dataclass(frozen=True)
class Room:
    """The room that an object takes in a picture.

    Attributes:
        window: Its rows and columns of the picture.
        inside: The same pixels as rows and columns of the object.
        masks: What would be visible of each object, the new one last, (size, size).
        areas: How many pixels each has in the open.
    """

    window: tuple[slice, slice]
    inside: tuple[slice, slice]
    masks: list[Mask]
    areas: list[int]


class Sources:
    """The source digits by split and class; no source is in both splits, whatever the seed of the pictures.

    Attributes:
        indices: For train and val, for each of the ten classes: rows of `load_digits`.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """

    def __init__(self) -> None:
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError:
            raise MissingExtraError("the digits data set needs scikit-learn; install dualvit[data]") from None
        digits = load_digits()
        self.images: Floats = digits.images.astype(np.float32)
        rng = np.random.default_rng(4)  # one split for all seeds: a model trained on one is tested fairly on another
        self.indices: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
        for digit in range(10):
            rows = rng.permutation(np.flatnonzero(digits.target == digit))
            val = round(len(rows) * SOURCE_VAL_FRACTION)
            self.indices["val"].append(rows[:val])
            self.indices["train"].append(rows[val:])

    def draw(self, rng: Rng, split: str, digit: int) -> Floats:
        """A random source of a split and class, (8, 8), 0..16."""
        source: Floats = self.images[rng.choice(self.indices[split][digit])]
        return source


class Canvas:
    """A picture in the making: a ground, then objects one over the other.

    Args:
        rng: Every choice comes from it.
        size: Height and width in pixels.
        ground: (size, size, 3), 0..255; clutter if left out.
    """

    def __init__(self, rng: Rng, size: int, ground: Floats | None = None) -> None:
        self.rng = rng
        self.pixels = clutter(rng, size) if ground is None else ground
        self.classes: list[int] = []
        self.masks: list[Mask] = []
        self.areas: list[int] = []  # of each digit in the open

    def room(self, cover: Floats, left: int, top: int) -> Room | None:
        """Return the room for an object, or None if too little would show of it or of one below.

        Args:
            cover: How much of each pixel the object covers, 0..1, (height, width).
            left: Where its first column lies in the picture; it may lie outside.
            top: Where its first row lies.
        """
        (height, width), size = cover.shape, len(self.pixels)
        # Clipped to the picture; an object that lies outside has an empty mask, and is refused below.
        rows = slice(min(max(top, 0), size), max(min(top + height, size), 0))
        columns = slice(min(max(left, 0), size), max(min(left + width, size), 0))
        inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        mask = np.zeros((size, size), dtype=np.bool_)
        mask[rows, columns] = cover[inside] > 0.5
        areas = [*self.areas, int((cover > 0.5).sum())]
        masks = [*(other & ~mask for other in self.masks), mask]
        if any(shown.sum() < MIN_VISIBLE * area for shown, area in zip(masks, areas, strict=True)):
            return None
        return Room((rows, columns), inside, masks, areas)

    def settle(self, room: Room, label: int) -> None:
        """Note the object that was painted into a room."""
        self.masks, self.areas = room.masks, room.areas
        self.classes.append(label)

    def paint(self, glyph: Glyph, digit: int, left: int, top: int) -> bool:
        """Paint a digit, unless too little would show of it or of one below, or no colour stands out."""
        room = self.room(glyph.outer, left, top)
        if room is None:
            return False
        window, inside = self.pixels[room.window], room.inside
        colour = striking_colour(self.rng, window[glyph.ring[inside]])
        outline = None if colour is None else striking_colour(self.rng, colour[None])
        if colour is None or outline is None:
            return False
        fill = colour + ramp(self.rng, glyph.fill.shape, self.rng.uniform(0, 30))[inside][..., None]
        window += glyph.outer[inside][..., None] * (outline - window)
        window += glyph.fill[inside][..., None] * (fill - window)
        self.settle(room, digit)
        return True

    def scene(self) -> Scene:
        """The picture as a camera would give it, with slight noise."""
        noise = self.rng.standard_normal(self.pixels.shape, dtype=np.float32) * np.float32(self.rng.uniform(1, 6))
        return Scene(np.clip(self.pixels + noise, 0, 255).astype(np.uint8), self.classes, self.masks)


def draw_scene(sources: Sources, seed: int, split: str, index: int, size: int) -> Scene:
    """Draw one picture of two to eight digits; it depends on its arguments alone.

    Example:
        >>> scene = draw_scene(Sources(), seed=0, split="train", index=0, size=64)
        >>> scene.image.shape, len(scene.classes) == len(scene.masks)
        ((64, 64, 3), True)
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = Canvas(rng, size)
    smallest, largest = max(_HEIGHTS[0] * size / 320, _MIN_HEIGHT), _HEIGHTS[1] * size / 320
    wanted = rng.integers(2, 9)
    for attempt in range(200):
        # A crowded picture may stay short of the number drawn, but never has less than two.
        if len(canvas.classes) == wanted or (attempt >= 40 and len(canvas.classes) >= 2):
            break
        digit = int(rng.integers(10))
        height = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        glyph = _glyph(rng, sources.draw(rng, split, digit), height)
        centre = rng.uniform(0.3 * height, size - 0.3 * height, 2)
        if canvas.masks and rng.random() < 0.2:  # overlaps are rare by chance alone
            centre = np.argwhere(rng.choice(canvas.masks)).mean(0) + rng.uniform(-0.8, 0.8, 2) * height
        top, left = (int(at - length / 2) for at, length in zip(centre, glyph.fill.shape, strict=True))
        canvas.paint(glyph, digit, left, top)
    return canvas.scene()


def draw_single(sources: Sources, seed: int, split: str, index: int) -> Scene:
    """Draw one 64-pixel picture of one digit, which is the last figure of the index."""
    rng = np.random.default_rng([seed, 2 + SPLITS.index(split), index])
    while True:
        canvas = Canvas(rng, CLASSIFY_SIZE)
        glyph = _glyph(rng, sources.draw(rng, split, index % 10), rng.uniform(30, 52))
        top, left = (int((CLASSIFY_SIZE - length) / 2 + rng.uniform(-6, 6)) for length in glyph.fill.shape)
        if canvas.paint(glyph, index % 10, left, top):
            return canvas.scene()


def _glyph(rng: Rng, source: Floats, height: float) -> Glyph:
    """Pose a source digit: scale, aspect, shear, rotation, weight and, for some, an outline."""
    cell = height / 8
    angle, shear = math.radians(rng.uniform(-25, 25)), rng.uniform(-0.25, 0.25)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    pose = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([cell * rng.uniform(0.75, 1.25), cell])
    border = max(1, round(cell * rng.uniform(0.12, 0.3))) if rng.random() < 0.35 else 0
    width, height_ = (math.ceil(length) for length in np.abs(pose) @ [8, 8] + 2 * border + 8)
    # PIL maps output to input, here to an enlargement of the source, 8 pixels for each of its own.
    back = np.linalg.inv(pose / 8)
    shift = 48 - back @ [width / 2, height_ / 2]
    large = Image.fromarray(np.pad(source * 15, 2).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    # The local mean is taken off, or one threshold would close the small holes and break the faint strokes.
    stroke, mean = (large.filter(ImageFilter.GaussianBlur(radius)) for radius in (2.2, 12))
    matrix = (*back[0], shift[0], *back[1], shift[1])
    relief = ImageChops.subtract(stroke, mean).transform(
        (width, height_), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    values = np.asarray(relief, dtype=np.float32)
    # The relief falls to nothing within about a cell; scaling that up leaves an edge one pixel wide.
    weight = rng.uniform(0.12, 0.25) * values.max()
    ink = np.clip((values - weight) * np.float32(cell / 120) + 0.5, 0, 1).astype(np.float32)
    outer = filtered(ink, ImageFilter.MaxFilter(2 * border + 1)) if border else ink
    return Glyph(ink, outer, (filtered(outer, ImageFilter.GaussianBlur(2)) > 0.1) & (outer <= 0.5))


def filtered(cover: Floats, kind: ImageFilter.Filter) -> Floats:
    """A cover of 0..1 after one of PIL's filters."""
    image = Image.fromarray((cover * 255).astype(np.uint8)).filter(kind)
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def random_colour(rng: Rng) -> Floats:
    """A colour from muted to vivid, (3,), 0..255."""
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0, 1) ** 0.6, rng.uniform(0.05, 1) ** 0.7
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.asarray(255 * value * (1 - saturation * (1 - wheel)), dtype=np.float32)


def contrast(colour: Floats, pixels: Floats) -> float:
    """How far a colour stands out from nine tenths of some pixels: brightness plus half the chroma, 0..255."""
    difference = pixels - colour
    luma = difference @ _LUMA
    chroma = np.linalg.norm(difference - luma[:, None], axis=1)
    return float(np.quantile(np.abs(luma) + chroma / 2, 0.1))


def striking_colour(rng: Rng, around: Floats, least: float | None = None) -> Floats | None:
    """A random colour whose `contrast` to the pixels around is at least MIN_CONTRAST or `least`, or None."""
    least = MIN_CONTRAST if least is None else least
    around = around[:: 1 + len(around) // 400]
    candidates = (random_colour(rng) for _ in range(30))
    return next((colour for colour in candidates if contrast(colour, around) >= least), None)


def ramp(rng: Rng, shape: tuple[int, ...], strength: float) -> Floats:
    """A plane that rises from -strength to strength in a random direction."""
    return plane(rng.uniform(0, 2 * math.pi), shape, strength)


def plane(angle: float, shape: tuple[int, ...], strength: float) -> Floats:
    """A plane that rises from -strength to strength in the direction of `angle`, in radians from x towards y."""
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in shape)
    rise = np.float32(math.sin(angle)) * rows[:, None] + np.float32(math.cos(angle)) * columns
    scale = np.float32(strength / (abs(math.sin(angle)) + abs(math.cos(angle))))
    return np.asarray(rise * scale, dtype=np.float32)


def clutter(rng: Rng, size: int) -> Floats:
    """A background, (size, size, 3): a gradient, blotches, and shapes and curves that are no digits."""
    first, second = random_colour(rng), random_colour(rng)
    mix = 0.5 + ramp(rng, (size, size), 0.5)[..., None]
    pixels = first * mix + second * (1 - mix)
    cells = int(rng.integers(3, 12))
    blotches = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    blotches = blotches.resize((size, size), Image.Resampling.BICUBIC)
    pixels += (np.asarray(blotches, dtype=np.float32) - 128) * np.float32(rng.uniform(0.1, 0.5))
    return strewn(rng, pixels, int(rng.integers(4, 18)))


def strewn(rng: Rng, pixels: Floats, count: int) -> Floats:
    """A ground, (size, size, 3), with so many shapes and curves on it, slightly blurred."""
    size = len(pixels)
    # Drawn at twice the size, because PIL's own edges are jagged.
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = image.resize((2 * size, 2 * size), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(count):
        _distractor(rng, draw, 2 * size)
    image = image.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    return np.asarray(image, dtype=np.float32).copy()


def _distractor(rng: Rng, draw: ImageDraw.ImageDraw, size: int) -> None:
    """Draw one shape: filled, or so long or wavy that it cannot pass for a digit."""
    ink = (*(int(v) for v in random_colour(rng)), int(rng.uniform(70, 255)))
    width = max(1, round(size * math.exp(rng.uniform(math.log(0.004), math.log(0.05)))))
    kind = rng.choice(["line", "wave", "ellipse", "rectangle", "polygon"])
    centre, reach = rng.uniform(0, size, 2), size * rng.uniform(0.03, 0.2, 2)
    box = (*(centre - reach), *(centre + reach))
    if kind == "line":
        angle = rng.uniform(0, math.pi)
        step = size * rng.uniform(0.4, 1.5) * np.array([math.cos(angle), math.sin(angle)])
        draw.line([*(centre - step), *(centre + step)], ink, width)
    elif kind == "wave":
        angle, turns = rng.uniform(0, math.pi), rng.uniform(1.5, 5)
        along = np.linspace(-1, 1, 60)
        across = rng.uniform(0.1, 0.3) * np.sin(turns * math.pi * along + rng.uniform(0, 6))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = centre + size * rng.uniform(0.15, 0.5) * np.stack([along, across], 1) @ turn
        # Opaque: a translucent ink would show twice where its segments overlap.
        draw.line([tuple(p) for p in points.tolist()], ink[:3], width, joint="curve")
    elif kind == "ellipse":
        draw.ellipse(box, ink)
    elif kind == "rectangle":
        draw.rectangle(box, ink)
    else:
        corners = centre + reach * rng.uniform(-1.3, 1.3, (int(rng.integers(3, 6)), 2))
        draw.polygon([tuple(p) for p in corners.tolist()], ink)


def hull(mask: Mask) -> NDArray[np.float64]:
    """The convex hull of a mask's pixels, corners included, (points, 2) as x and y in pixels.

    Its bounding box is the mask's own.

    Example:
        >>> sorted(hull(np.ones((2, 3), dtype=bool)).tolist())
        [[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]]
    """
    from scipy.spatial import ConvexHull  # type: ignore[import-untyped]  # comes with scikit-learn

    rows = np.flatnonzero(mask.any(1))
    left, right = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    corners = np.stack([np.r_[left, right, left, right], np.r_[rows, rows, rows + 1, rows + 1]], axis=1)
    points: NDArray[np.float64] = corners[ConvexHull(corners).vertices].astype(np.float64)
    return points
