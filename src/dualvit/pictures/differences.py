"""Pictures on which two models differ, side by side: what each found, found falsely and missed, by colour and line."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dualvit.pictures.boxes import write_names
from dualvit.pictures.palette import INK, PAPER, SERIES, SOFT, Colour, fitting, font, rgb

SIDE, GAP, COLUMNS = 320, 6, 2  # pixels of a panel's longer side and between panels; pairs in a row of the sheet
DASH, FRAME = 7, 4  # pixels
TINT, CASING = 0.3, 0.5  # opacities: of what is filled, and of the dark rim of each line
TAGS = 6  # names in a panel: more would hide it
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """How a kind of object is drawn, and called in the legend.

    Attributes:
        words: In the legend.
        colour: Of its line.
        on, off: Pixels of a dash and of the gap behind it; without a gap the line is whole.
        width: Of its line, in pixels.
        filled: Whether a mask is filled, too.
    """

    words: str
    colour: Colour
    on: int = DASH
    off: int = 0
    width: int = 2
    filled: bool = False


KINDS = {
    "true": Kind("true, of what is found", rgb(PAPER), width=1),
    "hit": Kind("found", rgb(SERIES[2])),
    "false": Kind("false", rgb(SERIES[1]), on=4, off=3, width=3, filled=True),
    "missed": Kind("missed", rgb(SERIES[6]), on=8, off=5, width=3, filled=True),
}


@dataclass(frozen=True)
class Mark:
    """An object in a picture.

    Attributes:
        kind: A key of KINDS.
        box: x1, y1, x2, y2 in the picture's pixels.
        mask: (H, W) of the picture, instead of the box.
        words: Beside it.
    """

    kind: str
    box: Sequence[float]
    mask: Array | None = None
    words: str = ""


@dataclass(frozen=True)
class Tile:
    """One picture as two models see it.

    Attributes:
        title: Which picture.
        panels: One of each model, equally large.
        captions: A line for each panel.
    """

    title: str
    panels: Sequence[Image.Image]
    captions: Sequence[str] = field(default_factory=tuple)


def marked(image: Image.Image, marks: Sequence[Mark], side: int = SIDE) -> Image.Image:
    """Return a picture with its objects drawn; the last ones lie on top, and are named first.

    Args:
        image: RGB.
        marks: The objects.
        side: Pixels of the longer side of what is returned.

    Example:
        >>> marked(Image.new("RGB", (50, 25)), [Mark("hit", (5, 5, 20, 20))], 100).size
        (100, 50)
    """
    canvas = fitted(image, side)
    factor = canvas.width / image.width, canvas.height / image.height
    pixels = np.asarray(canvas).astype(np.float32)
    for mark in marks:
        _draw(pixels, mark, factor)
    drawn = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    named = [mark for mark in reversed(marks) if mark.words][:TAGS]
    corners = [[value * factor[index % 2] for index, value in enumerate(mark.box)] for mark in named]
    write_names(drawn, corners, [mark.words for mark in named], [KINDS[mark.kind].colour for mark in named])
    return drawn


def fitted(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return a picture whose longer side has `side` pixels."""
    factor = side / max(image.size)
    return image.convert("RGB").resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS
    )


def _draw(pixels: Array, mark: Mark, factor: tuple[float, float]) -> None:
    """Draw an object into (H, W, 3)."""
    kind, (height, width) = KINDS[mark.kind], pixels.shape[:2]
    if mark.mask is not None:
        mask = Image.fromarray(mark.mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.NEAREST)
        inside = np.asarray(mask) > 0
        line = _rim(inside, kind)
    else:
        inside = np.zeros((height, width), bool)
        line = _frame([value * factor[index % 2] for index, value in enumerate(mark.box)], kind, (height, width))
    if kind.filled and mark.mask is not None:
        _lay(pixels, inside, kind.colour, TINT)
    if kind.width > 1:
        _lay(pixels, _grown(line[1], 1), rgb(INK), CASING)
    _lay(pixels, line[0], kind.colour, 1.0)


def _lay(pixels: Array, where: Array, colour: Colour, opacity: float) -> None:
    pixels[where] = pixels[where] * (1 - opacity) + np.array(colour, np.float32) * opacity


def _frame(box: Sequence[float], kind: Kind, size: tuple[int, int]) -> tuple[Array, Array]:
    """The dashes of a box's line, and the whole line, (H, W) each."""
    x1, y1, x2, y2 = (round(value) for value in box)
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = (columns >= x1) & (columns < max(x2, x1 + 1)) & (rows >= y1) & (rows < max(y2, y1 + 1))
    w = kind.width
    core = (columns >= x1 + w) & (columns < x2 - w) & (rows >= y1 + w) & (rows < y2 - w)
    line = inside & ~core
    level = (rows < y1 + w) | (rows >= y2 - w)  # of the upper and the lower side
    along = np.where(level, columns - x1, rows - y1)
    return line & (along % (kind.on + kind.off) < kind.on), line


def _grown(where: Array, by: int) -> Array:
    """Pixels (H, W) and those so near to them, in each direction."""
    for axis in (0, 1):
        padded = np.pad(where, [(by, by) if axis == one else (0, 0) for one in (0, 1)])
        where = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * by + 1, axis).any(-1))
    return where


def _rim(inside: Array, kind: Kind) -> tuple[Array, Array]:
    """The dashes of a mask's edge, and the whole edge, (H, W) each."""
    width = min(kind.width, 2)  # masks are often small
    line: Array = inside & _grown(~inside, width)
    if not kind.off or not line.any():
        return line, line
    rows, columns = np.nonzero(inside)
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    turn = np.arctan2(y - rows.mean(), x - columns.mean()) / (2 * np.pi) + 0.5
    dashes = max(3, round(line.sum() / width / (kind.on + kind.off)))
    return line & ((turn * dashes) % 1 < kind.on / (kind.on + kind.off)), line


def judged_pixels(image: Image.Image, said: Array, true: Array, background: int | None, ignore: int) -> Image.Image:
    """Return a picture with its pixels judged: found ones, false ones, and missed ones, which are hatched.

    Args:
        image: RGB.
        said, true: Classes of the pixels, (H, W) each.
        background: The class that counts as nothing; None if there is none.
        ignore: The class of pixels that count for nothing.
    """
    canvas = fitted(image)
    said, true = (
        np.asarray(Image.fromarray(classes.astype(np.int32)).resize(canvas.size, Image.Resampling.NEAREST))
        for classes in (said, true)
    )
    counts, right = true != ignore, said == true
    something = np.ones_like(right) if background is None else true != background
    missed = counts & ~right & (said == background) if background is not None else np.zeros_like(right)
    rows, columns = np.ogrid[: canvas.height, : canvas.width]
    pixels = np.asarray(canvas).astype(np.float32)
    if background is not None:
        _lay(pixels, counts & right & something, KINDS["hit"].colour, TINT)
    _lay(pixels, counts & ~right & ~missed, KINDS["false"].colour, 0.7)
    _lay(pixels, missed & ((rows + columns) % 8 < 5), KINDS["missed"].colour, 0.85)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def beside(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels side by side."""
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    canvas, left = Image.new("RGB", (width, max(panel.height for panel in panels)), PAPER), 0
    for panel in panels:
        canvas.paste(panel, (left, 0))
        left += panel.width + GAP
    return canvas


def sheet(tiles: Sequence[Tile], title: str, kinds: Sequence[str]) -> bytes:
    """Return all pictures with their captions on one sheet, as a PNG.

    Args:
        tiles: In order.
        title: Above them.
        kinds: Keys of KINDS, for the legend.
    """
    small, large, margin = font(13), font(18), 18
    wide = 2 * SIDE + GAP
    columns = min(COLUMNS, len(tiles))
    width = 2 * margin + columns * wide + (columns - 1) * 3 * margin
    bodies = [beside(tile.panels) for tile in tiles]
    heights = [
        max(body.height for body in bodies[start : start + columns]) + 44 for start in range(0, len(tiles), columns)
    ]
    canvas = Image.new("RGB", (width, 84 + sum(heights) + margin * len(heights)), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((margin, 14), fitting(title, large, width - 2 * margin), fill=INK, font=large)
    _legend(canvas, margin, 46, kinds)
    top = 84
    for start, height in zip(range(0, len(tiles), columns), heights, strict=True):
        for column, (tile, body) in enumerate(zip(tiles[start : start + columns], bodies[start : start + columns],
                                                  strict=True)):  # fmt: skip
            left = margin + column * (wide + 3 * margin)
            pen.text((left, top), fitting(tile.title, small, wide), fill=SOFT, font=small)
            step = tile.panels[0].width + GAP
            for index, words in enumerate(tile.captions):
                pen.text((left + index * step, top + 18), fitting(words, small, step - GAP), fill=INK, font=small)
            canvas.paste(body, (left, top + 40))
        top += height + margin
    return encoded(canvas, "PNG")


def _legend(canvas: Image.Image, left: int, top: int, kinds: Sequence[str]) -> None:
    small, pen = font(13), ImageDraw.Draw(canvas)
    for name in kinds:
        pixels = np.full((22, 40, 3), 150, np.float32)
        _draw(pixels, Mark(name, (3, 3, 37, 19)), (1.0, 1.0))
        canvas.paste(Image.fromarray(pixels.astype(np.uint8)), (left, top))
        pen.text((left + 48, top + 11), KINDS[name].words, fill=INK, font=small, anchor="lm")
        left += 48 + round(small.getlength(KINDS[name].words)) + 28


def framed(image: Image.Image, kind: str) -> Image.Image:
    """Return a picture in a frame of a kind's colour."""
    canvas = Image.new("RGB", (image.width + 2 * FRAME, image.height + 2 * FRAME), KINDS[kind].colour)
    canvas.paste(image, (FRAME, FRAME))
    return canvas


def encoded(image: Image.Image, kind: str, quality: int = 82) -> bytes:
    """Return a picture as a PNG or JPEG file."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return buffer.getvalue()
