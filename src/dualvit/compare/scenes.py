"""The pictures on which two models differ, drawn: `differences.png`, and what report.html shows of them."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from dualvit.compare.differences import Difference, Pair, Scene
from dualvit.data.images import open_rgb
from dualvit.errors import DualViTError, InputError
from dualvit.pictures.differences import KINDS, Tile, beside, sheet
from dualvit.report.drawing import classified, detected, embedded, legend, opened, segmented
from dualvit.report.page import Figure, Figures
from dualvit.report.predictions import Answer

LEGENDS = {"classify": (), "semantic": ("hit", "false", "missed")}  # of boxes: all
Panels = Callable[[Difference], list[Image.Image]]


@dataclass(frozen=True)
class View:
    """What report.html shows: the pictures, and how they are to be read."""

    lead: str
    figures: Figures


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
    bodies = embedded([beside(tile.panels) for tile in tiles])
    figures = [
        Figure(tile.title, body, below=[f"{label} {words}" for label, words in zip(labels, tile.captions, strict=True)])
        for tile, body in zip(tiles, bodies, strict=True)
    ]
    view = View(_lead(scene, pair), Figures(figures, columns=2, legend=legend(kinds)))
    return sheet(tiles, title, kinds), view, lines


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
        return lambda one: [classified(open_rgb(scene.base / one.file), rows[one.image_id]) for rows in answers]
    if _kind(scene) == "semantic":
        answers = [{row.image_id: row for row in scene.predictions[label].answers} for label in labels]
        return lambda one: [_segmented(scene, one, rows[one.image_id]) for rows in answers]
    models = [scene.models[label] for label in labels]
    masks = any(one.segmentation for one in scene.said.annotations)

    def objects(one: Difference) -> list[Image.Image]:
        picture = scene.places[one.image_id]
        image = opened(picture)
        return [detected(image, picture, model.pictures[one.image_id], scene.said.classes, masks) for model in models]

    return objects


def _segmented(scene: Scene, one: Difference, answer: Answer) -> Image.Image:
    if one.image_id not in scene.places:
        raise InputError("it is not in the data set any more")
    pixels, mask = scene.truth[scene.places[one.image_id]]
    return segmented(pixels, mask, answer.map, scene.said.classes, scene.truth.data.ignore_index)
