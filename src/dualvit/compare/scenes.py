"""The pictures on which two models differ, drawn: `differences.png`, and what report.html shows of them."""

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dualvit.compare.differences import Difference, Pair, Scene
from dualvit.compare.matching import Judged
from dualvit.compare.predictions import Answer, Found
from dualvit.data.coco import Picture, decode
from dualvit.data.images import UnreadableError, open_rgb, opened_file
from dualvit.data.outlines import FaultError, checked_outline
from dualvit.errors import DualViTError, InputError
from dualvit.pictures.captions import captioned
from dualvit.pictures.differences import (
    FRAME,
    KINDS,
    SIDE,
    Mark,
    Tile,
    beside,
    encoded,
    framed,
    judged_pixels,
    marked,
    sheet,
)
from dualvit.pictures.masks import BACKGROUND
from dualvit.pictures.palette import PAPER

BUDGET = 1_200_000  # characters that the page spends on these pictures
QUALITIES = (84, 75, 65, 50, 35)  # of JPEG, until the budget holds
LEGENDS = {"classify": (), "semantic": ("hit", "false", "missed")}  # of boxes: all
Panels = Callable[[Difference], list[Image.Image]]


@dataclass(frozen=True)
class View:
    """What report.html shows: each picture with its words, and how it is to be read."""

    lead: str
    pictures: Sequence[tuple[str, str, Sequence[str]]]
    kinds: Sequence[tuple[str, str]]  # words of the legend, and the line in CSS


def drawn(scene: Scene) -> tuple[bytes | None, View | None, list[str]]:
    """Draw the first pair.

    Args:
        scene: What both models said, and what is true.

    Returns:
        The sheet as a PNG, and what the page shows; None each if no picture can be drawn; and lines on those that
        cannot.
    """
    found, lines, tiles = scene.differences, list[str](), list[Tile]()
    if not found.pairs:
        return None, None, lines
    pair = found.pairs[0]
    if not pair.pictures:
        return None, None, [f"{pair.other} and {found.reference} have the same score on each of {pair.equal} pictures"]
    panels = _panels(scene, pair)
    for one in pair.pictures:
        try:
            tiles.append(Tile(one.file, panels(one), _captions(one)))
        except (DualViTError, OSError, LookupError) as error:
            lines.append(f"{one.file} is not drawn: {' '.join(str(error).split())[:200]}")
    if not tiles:
        return None, None, lines
    labels, kinds = (found.reference, pair.other), LEGENDS.get(_kind(scene), tuple(KINDS))
    title = f"Where {found.reference} (left) and {pair.other} (right) differ most: {found.measure}, seed {found.seed}"
    return sheet(tiles, title, kinds), View(_lead(scene, pair), _embedded(tiles, labels), _legend(kinds)), lines


def _kind(scene: Scene) -> str:
    return scene.said.task


def _lead(scene: Scene, pair: Pair) -> str:
    found = scene.differences
    words = (
        f"Left {found.reference}, right {pair.other}, seed {found.seed}, {found.split} pictures. The score of a "
        f"picture is {found.measure}: {pair.other} has more on {pair.better} pictures, less on {pair.worse}, the same "
        f"on {pair.equal}."
    )
    if _kind(scene) == "classify":
        return f"{words} In a green frame, the right class is the most probable one; in a red one, it is not."
    if not pair.confidence:
        return words
    limits = ", ".join(f"{value:.2f} of {label}" for label, value in pair.confidence.items())
    return f"{words} Objects count from the confidence that gives each model most F1 over all pictures: {limits}."


def _captions(one: Difference) -> list[str]:
    words = []
    for key, score in (("reference", one.reference), ("other", one.other)):
        counts = one.counts.get(key)
        tail = f": {counts['hits']} found, {counts['false']} false, {counts['missed']} missed" if counts else ""
        words.append(f"{score:.2f}{tail}")
    return words


def _panels(scene: Scene, pair: Pair) -> Panels:
    """What draws a picture as each of the two models sees it."""
    labels = (scene.differences.reference, pair.other)
    if _kind(scene) == "classify":
        answers = [{row.image_id: row for row in scene.predictions[label].answers} for label in labels]
        return lambda one: [_classified(open_rgb(scene.base / one.file), rows[one.image_id]) for rows in answers]
    if _kind(scene) == "semantic":
        answers = [{row.image_id: row for row in scene.predictions[label].answers} for label in labels]
        return lambda one: [_segmented(scene, one, rows[one.image_id]) for rows in answers]
    models = [scene.models[label] for label in labels]

    def objects(one: Difference) -> list[Image.Image]:
        picture = scene.places[one.image_id]
        image = _opened(picture)
        return [
            marked(image, _marks(picture, model.pictures[one.image_id], scene.said.classes, _masked(scene)))
            for model in models
        ]

    return objects


def _masked(scene: Scene) -> bool:
    return any(one.segmentation for one in scene.said.annotations)


def _opened(picture: Picture) -> Image.Image:
    image = open_rgb(picture.file, upright=picture.upright)
    return image.crop((0, 0, picture.width, picture.height))  # which pads, too


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


def _classified(image: Image.Image, answer: Answer) -> Image.Image:
    """A picture with the probability of its right class, and of the most probable other ones."""
    others = [(name, share) for name, share in answer.best.items() if name != answer.name][:2]
    right = all(share <= answer.right for _, share in others)
    rows = [(f"{answer.name} (right)", answer.right), *others]
    square = ImageOps.pad(image, (SIDE - 2 * FRAME, SIDE - 2 * FRAME), color=PAPER)
    return framed(captioned(square, rows), "hit" if right else "false")


def _segmented(scene: Scene, one: Difference, answer: Answer) -> Image.Image:
    if one.image_id not in scene.places:
        raise InputError("it is not in the data set any more")
    pixels, mask = scene.truth[scene.places[one.image_id]]
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    try:
        small = base64.b64decode(answer.map, validate=True)
    except ValueError:
        raise InputError("its map is damaged") from None
    with opened_file(io.BytesIO(small), "its map") as (opened, _):
        said = np.asarray(opened.resize((mask.shape[1], mask.shape[0]), Image.Resampling.NEAREST))
    if said.ndim != 2:
        raise UnreadableError("its map has colours, and no classes")
    classes = scene.said.classes
    background = classes.index(BACKGROUND) if BACKGROUND in classes else None
    return judged_pixels(image, said, mask.numpy(), background, scene.truth.data.ignore_index)


def _embedded(tiles: Sequence[Tile], labels: Sequence[str]) -> list[tuple[str, str, Sequence[str]]]:
    """The tiles for the page, in the best quality that its budget allows."""
    bodies = [beside(tile.panels) for tile in tiles]
    texts: list[str] = []
    for quality in QUALITIES:
        texts = [base64.b64encode(encoded(body, "JPEG", quality)).decode() for body in bodies]
        if sum(map(len, texts)) <= BUDGET:
            break
    return [
        (f"data:image/jpeg;base64,{text}", tile.title,
         [f"{label} {words}" for label, words in zip(labels, tile.captions, strict=True)])
        for text, tile in zip(texts, tiles, strict=True)
    ]  # fmt: skip


def _legend(kinds: Sequence[str]) -> list[tuple[str, str]]:
    lines = []
    for name in kinds:
        kind = KINDS[name]
        style = "solid" if not kind.off else "dotted" if kind.on == kind.off else "dashed"
        lines.append((kind.words, f"{kind.width}px {style} rgb{kind.colour}"))
    return lines
