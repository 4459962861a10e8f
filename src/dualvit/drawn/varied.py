"""Varied scenes for detection and segmentation: shapes by formulas with textures, shadows, light, blur and grain.

They need neither photographs nor a licence. The class of an object is its formula, so its shape; colour, texture,
size, turn and light tell nothing about it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dualvit.data.public import outline
from dualvit.drawn.dataset import DrawnSet, Progress, check_size
from dualvit.drawn.formulas import FINER, Colour, Formula, Points, distinct, draw_rings, ink_of, silhouette
from dualvit.drawn.scenes import (
    MIN_VISIBLE,
    SPLITS,
    Canvas,
    Floats,
    Mask,
    Rng,
    Room,
    Scene,
    clutter,
    filtered,
    plane,
    ramp,
    random_colour,
    strewn,
    striking_colour,
)
from dualvit.drawn.textures import texture
from dualvit.errors import InputError, MissingExtraError

MOST_CLASSES = 100  # so many formulas are found in a second
LEAST_CONTRAST = 45.0  # in 0..255, of an object's first colour against nine tenths of the pixels around it
_RADII = (0.04, 0.27)  # shares of the picture's side
_MIN_RADIUS = 9.0  # pixels at any size; below it formulas look alike


@dataclass(frozen=True, kw_only=True)
class VariedSet(DrawnSet):
    """The content of a data set of varied scenes."""

    size: int
    classes: int
    kind = "scenes"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size)
        if not 1 <= self.classes <= MOST_CLASSES:
            raise InputError(f"classes is {self.classes}, not from 1 to {MOST_CLASSES}; try 20")

    def names(self) -> list[str]:
        """Return a name per formula."""
        return [f"shape {label}" for label in range(self.classes)]

    def drawer(self) -> Callable[[str, int], Scene]:
        """Return the function that draws a scene by its number."""
        return lambda name, index: draw_varied(self.seed, name.rpartition("/")[2], index, self.size, self.classes)


def write_scenes(
    root: Path,
    images: int = 400,
    size: int = 320,
    seed: int = 0,
    classes: int = 20,
    val_fraction: float = 0.2,
    progress: Progress | None = None,
) -> Path:
    """Write the data set, or keep it if it stands there with the same settings.

    One label file serves detection and segmentation: its polygon is the outline of an object's largest visible part,
    through the centres of its outermost pixels. The rows of a picture go from the back to the front. A picture depends
    on seed, split, number, size and classes alone, so a larger set only adds files.

    Args:
        root: The folder; new, empty, or a complete data set of these settings.
        images: Pictures, train and val together; at least 5.
        size: Their height and width in pixels; a multiple of 32, at least 64.
        seed: Decides everything but the classes' shapes.
        classes: Kinds of shapes, 1 to 100. The shape of a class is the same in every set.
        val_fraction: Share of the pictures that go to val, above 0 and below 1.
        progress: Called with (done, total) after each picture.

    Returns:
        The absolute path of `data.yaml`, for `YOLO(...).train(data=...)`.

    Raises:
        ValueError: a value out of range, or a folder that holds something else.
        ModuleNotFoundError: contourpy or SciPy is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_scenes(Path(folder) / "scenes", images=5, size=64)
        ...     sorted(path.name for path in data.parent.iterdir())
        ['data.yaml', 'dualvit-scenes.json', 'images', 'labels']
    """
    content = VariedSet(images=images, size=size, seed=seed, classes=classes, val_fraction=val_fraction)
    return content.place(root, progress) / "data.yaml"


@dataclass(frozen=True)
class VariedScene(Scene):
    """A scene whose polygons are true outlines; its masks have one part each, and may have holes."""

    def polygon(self, mask: Mask) -> NDArray[np.float64]:
        """Return the outline of a mask, (points, 2) as x and y in 0..1."""
        return np.array(outline(mask))


def draw_varied(seed: int, split: str, index: int, size: int, classes: int) -> VariedScene:
    """Draw one picture of two to twelve objects; it depends on its arguments alone.

    Example:
        >>> scene = draw_varied(seed=0, split="train", index=0, size=64, classes=20)
        >>> scene.image.shape, len(scene.classes) == len(scene.masks) >= 2
        ((64, 64, 3), True)
    """
    rng = np.random.default_rng([seed, 4 + SPLITS.index(split), index])
    while True:
        canvas = Composition(rng, size, distinct(classes))
        smallest, largest = (max(share * size, _MIN_RADIUS) for share in _RADII)
        wanted = int(rng.integers(2, 13))
        radii = np.exp(rng.uniform(math.log(smallest), math.log(largest), wanted))
        if rng.random() < 0.7:  # the large behind the small, as most often in photographs
            radii = np.sort(radii)[::-1]
        for radius in radii:
            for _ in range(8):  # places; a crowded picture may stay short of the number wanted
                if canvas.add(int(rng.integers(classes)), float(radius)):
                    break
        if len(canvas.classes) >= 2:
            return canvas.finished()


class Composed(Canvas):
    """A picture in the making: a ground, objects with shadows, and at the end the light and the camera.

    Args:
        rng: Every choice comes from it.
        size: Height and width in pixels.
        ground: (size, size, 3), 0..255.
    """

    def __init__(self, rng: Rng, size: int, ground: Floats) -> None:
        super().__init__(rng, size, ground)
        self.light = rng.uniform(0, 2 * math.pi)  # where it comes from, from x towards y
        self.shadow = rng.uniform(0.2, 0.65) if rng.random() < 0.7 else 0.0  # how much it darkens

    def room(self, cover: Floats, left: int, top: int) -> Room | None:
        """Return the room for an object, as its parent, with the largest visible part of each object alone."""
        room = super().room(cover, left, top)
        if room is None:
            return None
        before = [*self.masks, None]
        masks = [
            mask if old is not None and (mask == old).all() else _largest_part(mask)
            for mask, old in zip(room.masks, before, strict=True)
        ]
        if any(mask.sum() < MIN_VISIBLE * area for mask, area in zip(masks, room.areas, strict=True)):
            return None
        return replace(room, masks=masks)

    def _centre(self, radius: float) -> NDArray[np.float64]:
        """Return a random place, x and y, for 3 of 10 objects at the edge of another."""
        rng, size = self.rng, len(self.pixels)
        if self.masks and rng.random() < 0.3:
            mask = self.masks[int(rng.integers(len(self.masks)))]
            rows, columns = np.nonzero(mask)
            reach, angle = math.sqrt(len(rows) / math.pi) + rng.uniform(0.1, 0.9) * radius, rng.uniform(0, 2 * math.pi)
            return np.array([columns.mean() + reach * math.cos(angle), rows.mean() + reach * math.sin(angle)])
        return rng.uniform(0.3 * radius, size - 0.3 * radius, 2)

    def _corner(self, radius: float, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return left and top of an object of (height, width) at a random place."""
        x, y = self._centre(radius)
        return int(x - shape[1] / 2), int(y - shape[0] / 2)

    def _cover(self, room: Room, cover: Floats, surface: Floats, label: int) -> None:
        """Paint a surface into a room, as far as the object covers it, and note the object."""
        window = self.pixels[room.window]
        window += cover[room.inside][..., None] * (surface[room.inside] - window)
        self.settle(room, label)

    def _cast_shadow(self, cover: Floats, left: int, top: int, radius: float) -> None:
        """Darken the picture softly beside an object, on the side away from the light."""
        far = self.rng.uniform(0.05, 0.25) * radius
        if not self.shadow:
            return
        spread = Image.new("L", self.pixels.shape[1::-1])
        shape = Image.fromarray((cover * 255).astype(np.uint8))
        spread.paste(shape, (left - round(far * math.cos(self.light)), top - round(far * math.sin(self.light))))
        soft = np.asarray(spread.filter(ImageFilter.GaussianBlur(1 + 0.4 * far)), dtype=np.float32)
        self.pixels *= 1 - np.float32(self.shadow / 255) * soft[..., None]

    def finished(self) -> VariedScene:
        """Return the picture as a camera would give it: with light, contrast, blur and grain."""
        rng, shape = self.rng, self.pixels.shape[:2]
        light = 1 + plane(self.light, shape, rng.uniform(0, 0.4) if rng.random() < 0.7 else 0)[..., None]
        pixels = self.pixels * light * np.float32(rng.uniform(0.7, 1.2))
        middle = pixels.mean()
        pixels = middle + (pixels - middle) * np.float32(rng.uniform(0.65, 1.2))
        pixels *= rng.uniform(0.92, 1.08, 3).astype(np.float32)  # the light's own colour
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        if rng.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.2) * math.sqrt(shape[0] / 320)))
        grain = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0.5, 10))
        return VariedScene(np.clip(image + grain, 0, 255).astype(np.uint8), self.classes, self.masks)


class Composition(Composed):
    """A picture of formulas in the making.

    Args:
        rng: Every choice comes from it.
        size: Height and width in pixels.
        formulas: The shape of each class.
    """

    def __init__(self, rng: Rng, size: int, formulas: Sequence[Formula]) -> None:
        super().__init__(rng, size, _ground(rng, size))
        self.formulas = formulas

    def add(self, label: int, radius: float) -> bool:
        """Paint an object at a random place, unless too little would show of it or of another, or it stands out little.

        Args:
            label: Its class.
            radius: Of its outline without waves, in pixels.
        """
        rng, size = self.rng, len(self.pixels)
        pose = np.array([[1, rng.uniform(-0.2, 0.2)], [0, rng.uniform(0.8, 1.2)]])
        rings = [ring @ pose for ring in self.formulas[label].outlines(radius, rng.uniform(0, 2 * math.pi), rng)]
        low, high = rings[0].min(0) - 3, rings[0].max(0) + 3
        width, height = (math.ceil(length) for length in high - low)
        rings = [FINER * (ring - low) for ring in rings]
        fine = silhouette((FINER * width, FINER * height), rings[0])
        cover = np.asarray(fine.reduce(FINER), dtype=np.float32) / np.float32(255)
        left, top = self._corner(radius, (height, width))
        room = self.room(cover, left, top)
        if room is None:
            return False
        ring = (filtered(cover, ImageFilter.GaussianBlur(2)) > 0.1) & (cover <= 0.5)
        colour = striking_colour(rng, self.pixels[room.window][ring[room.inside]], LEAST_CONTRAST)
        if colour is None:
            return False
        surface = _surface(rng, rings, (height, width), colour, size)
        surface += plane(self.light, (height, width), rng.uniform(0, 35))[..., None]
        self._cast_shadow(cover, left, top, radius)
        self._cover(room, cover, surface, label)
        return True


def _ground(rng: Rng, size: int) -> Floats:
    """Return a ground, (size, size, 3): a texture, two textures with a border, or clutter; some with shapes on it."""
    if rng.random() < 0.25:
        return clutter(rng, size)
    ground = _soft_texture(rng, (size, size), random_colour(rng), size)
    if rng.random() < 0.35:  # a horizon, a wall, the edge of a table
        beyond = plane(rng.uniform(0, 2 * math.pi), (size, size), 1) > rng.uniform(-0.5, 0.5)
        ground[beyond] = _soft_texture(rng, (size, size), random_colour(rng), size)[beyond]
    return strewn(rng, ground, int(rng.integers(0, 12)) if rng.random() < 0.5 else 0)


def _soft_texture(rng: Rng, shape: tuple[int, int], colour: Floats, size: int) -> Floats:
    """Return a texture of a colour and one that lies on the way to a random other one."""
    other = colour + np.float32(rng.uniform(0.15, 0.7)) * (random_colour(rng) - colour)
    return texture(rng, shape, colour, other, 0.25 * size)


def _surface(rng: Rng, rings: list[Points], shape: tuple[int, int], colour: Floats, size: int) -> Floats:
    """Return the looks of an object, (height, width, 3): a colour, a texture or a cut-out, and the inner rings on it.

    Args:
        rng: Decides them.
        rings: The formula's outlines, in pixels of FINER times the size.
        shape: Height and width.
        colour: What stands out from the pixels around.
        size: Sides of the whole picture; textures have periods of its size.
    """
    fine = (FINER * shape[0], FINER * shape[1])

    def fill(base: Floats) -> Image.Image:
        if rng.random() < 0.2:
            return Image.new("RGB", fine[::-1], ink_of(base))
        scale = min(2 * size, 2.5 * min(fine))
        return Image.fromarray(np.clip(texture(rng, fine, base, random_colour(rng), scale), 0, 255).astype(np.uint8))

    cut_out = rng.random() < 0.2
    if cut_out:  # of another scene, seen through the shape
        image = Image.fromarray(np.clip(clutter(rng, max(shape)), 0, 255).astype(np.uint8))
        image = image.crop((0, 0, *shape[::-1])).resize(fine[::-1], Image.Resampling.BICUBIC)
    else:
        image = fill(colour)

    def inner() -> Colour | Image.Image:
        base = random_colour(rng)
        return fill(base) if rng.random() < 0.3 else ink_of(base)

    if rng.random() < 0.5:
        draw_rings(image, rings[1:], rng, inner)
    surface = np.asarray(image.reduce(FINER), dtype=np.float32) + ramp(rng, shape, rng.uniform(0, 25))[..., None]
    if cut_out or rng.random() < 0.3:
        rim = rng.uniform(0.03, 0.12) * min(shape) / 2
        inside = np.asarray(silhouette(fine[::-1], rings[0]).reduce(FINER), dtype=np.float32) / np.float32(255)
        core = np.clip(2 * filtered(inside, ImageFilter.GaussianBlur(max(1.0, rim)))[..., None] - 1, 0, 1)
        edge = np.clip(1 - 3 * core, 0, 1)
        surface += edge * (colour - surface)
    return surface


def _largest_part(mask: Mask) -> Mask:
    """Return the largest connected part of a mask."""
    try:
        from scipy.ndimage import label  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtraError("varied scenes need SciPy and contourpy; install dualvit[report]") from None

    parts, count = label(mask)
    if count < 2:
        return mask
    largest: Mask = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return largest
