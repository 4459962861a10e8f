"""One picture as a model sees it beside the truth: objects, a class, or the classes of pixels."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from dualvit.data.coco import Picture, decode
from dualvit.data.images import UnreadableError, open_rgb, opened_file
from dualvit.data.outlines import FaultError, checked_outline
from dualvit.errors import InputError
from dualvit.pictures.captions import captioned
from dualvit.pictures.differences import FRAME, KINDS, SIDE, Mark, encoded, framed, judged_pixels, marked
from dualvit.pictures.masks import BACKGROUND
from dualvit.pictures.palette import PAPER
from dualvit.report.matching import Judged
from dualvit.report.predictions import Answer, Found

BUDGET = 1_200_000  # characters that a page spends on such pictures
QUALITIES = (84, 75, 65, 50, 35)  # of JPEG, until the budget holds


def opened(picture: Picture) -> Image.Image:
    """Return the pixels that a picture's boxes are of."""
    image = open_rgb(picture.file, upright=picture.upright)
    return image.crop((0, 0, picture.width, picture.height))  # which pads, too


def detected(
    image: Image.Image, picture: Picture, judged: Judged, classes: Sequence[str], masks: bool, side: int = SIDE
) -> Image.Image:
    """Return a picture with what was found, what was found falsely, and what was missed.

    Args:
        image: RGB, see `opened`.
        picture: What is there.
        judged: What was found.
        classes: Their names.
        masks: Whether masks are drawn, and not boxes.
        side: Pixels of the longer side of what is returned.
    """
    return marked(image, _marks(picture, judged, classes, masks), side)


def _marks(picture: Picture, judged: Judged, classes: Sequence[str], masks: bool) -> list[Mark]:
    """The objects of a picture as one model sees them: found ones below, false ones and missed ones on top."""

    def true(index: int, kind: str, words: str = "") -> Mark:
        segment = picture.segments[index] if masks else None
        mask = None if segment is None else decode(segment, picture.height, picture.width)
        return Mark(kind, picture.boxes[index].tolist(), mask, words)

    def found(one: Found, kind: str, words: str = "") -> Mark:
        x, y, width, height = one.bbox
        return Mark(kind, (x, y, x + width, y + height), _mask(one, picture) if masks else None, words)

    several = len(classes) > 1
    names = [f"{classes[one.category_id]} {one.score:.2f}" if several else f"{one.score:.2f}" for one in judged.false]
    return [
        *(true(index, "true") for index in judged.found),
        *(found(one, "hit") for one in judged.hits),
        *(true(index, "missed", classes[picture.labels[index]] if several else "") for index in judged.missed),
        *(found(one, "false", words) for one, words in zip(judged.false, names, strict=True)),
    ]


def _mask(one: Found, picture: Picture) -> np.ndarray[Any, Any] | None:
    """The pixels of a found object; None if it has none."""
    try:
        runs = checked_outline(one.segmentation, (picture.width, picture.height), Counter())
    except FaultError as error:
        raise InputError(f"an object of the predictions {error}") from None
    return None if runs is None else decode(runs, picture.height, picture.width)


def classified(image: Image.Image, answer: Answer) -> Image.Image:
    """Return a picture with the probability of its right class, and of the most probable other ones."""
    others = [(name, share) for name, share in answer.best.items() if name != answer.name][:2]
    right = all(share <= answer.right for _, share in others)
    rows = [(f"{answer.name} (right)", answer.right), *others]
    square = ImageOps.pad(image, (SIDE - 2 * FRAME, SIDE - 2 * FRAME), color=PAPER)
    return framed(captioned(square, rows), "hit" if right else "false")


def segmented(pixels: Tensor, mask: Tensor, small: str, classes: Sequence[str], ignore: int) -> Image.Image:
    """Return a picture with its pixels judged.

    Args:
        pixels: uint8 (3, H, W).
        mask: Their true classes, int64 (H, W).
        small: What was said, as `small_map` writes it.
        classes: Their names.
        ignore: The class of pixels that count for nothing.

    Raises:
        ValueError: the map is damaged.
    """
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    try:
        content = base64.b64decode(small, validate=True)
    except ValueError:
        raise InputError("its map is damaged") from None
    with opened_file(io.BytesIO(content), "its map") as (found, _):
        said = np.asarray(found.resize((mask.shape[1], mask.shape[0]), Image.Resampling.NEAREST))
    if said.ndim != 2:
        raise UnreadableError("its map has colours, and no classes")
    background = classes.index(BACKGROUND) if BACKGROUND in classes else None
    return judged_pixels(image, said, mask.numpy(), background, ignore)


def tally(judged: Judged) -> str:
    """Return what was found, in words."""
    return f"{len(judged.hits)} found, {len(judged.false)} false, {len(judged.missed)} missed"


def embedded(pictures: Sequence[Image.Image], budget: int = BUDGET) -> list[bytes]:
    """Return pictures as JPEG files, in the best quality with which a page holds them in so many characters."""
    files: list[bytes] = []
    for quality in QUALITIES:
        files = [encoded(picture, "JPEG", quality) for picture in pictures]
        if sum(map(len, files)) * 4 / 3 <= budget:
            break
    return files


def legend(kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return the words of kinds of objects, each with the line that it is drawn in, in CSS."""
    lines = []
    for name in kinds:
        kind = KINDS[name]
        style = "solid" if not kind.off else "dotted" if kind.on == kind.off else "dashed"
        lines.append((kind.words, f"{kind.width}px {style} rgb{kind.colour}"))
    return lines
