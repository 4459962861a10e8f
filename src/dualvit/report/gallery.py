"""The best and the worst predictions of a network, of a few pictures that it is validated on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from dualvit.data.coco import Picture
from dualvit.errors import DualViTError, line_of
from dualvit.pictures.differences import KINDS
from dualvit.report.drawing import detected, embedded, legend, opened, tally
from dualvit.report.matching import MEASURES, Judged, Model, judged
from dualvit.report.page import Figure, Figures, Part, Words
from dualvit.report.predictions import Answer, Category, Found, Predictions, Shown

PICTURES, SECONDS = 64, 60.0  # what is asked about at most, and how long
SHOWN, SIDE = 6, 480  # pictures of each kind at most; pixels of the longer side
LEGENDS = {"classify": (), "semantic": ("hit", "false", "missed")}  # of boxes: all


@dataclass
class Asked:
    """What a network said of some pictures.

    Attributes:
        task: detect, segment, classify or semantic.
        classes: Their names.
        total: How many pictures there are, of which some were asked about.
        images: Those that were asked about.
        places: Of detectors, what is there, by the numbers of pictures.
        found, answers: What was said.
        panel: Draws a picture of an answer, from its number and the answer.
    """

    task: str
    classes: Sequence[str]
    total: int
    images: list[Shown] = field(default_factory=list)
    places: dict[int, Picture] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    panel: Callable[[int, Answer], Image.Image] | None = None

    def predictions(self) -> Predictions:
        """Return it in the form that is judged."""
        return Predictions(
            version=1, task=self.task, split="val", images=self.images, annotations=self.found, answers=self.answers,
            categories=[Category(index, name) for index, name in enumerate(self.classes)],
        )  # fmt: skip


def few(count: int, most: int = PICTURES, seconds: float = SECONDS) -> Iterator[int]:
    """Yield the numbers of a few of `count` pictures, evenly spread; no further one once the seconds are over.

    Example:
        >>> list(few(3)), list(few(9, most=3))
        ([0, 1, 2], [0, 4, 8])
    """
    end, chosen = time.monotonic() + seconds, min(count, most)
    for index in range(chosen):
        if time.monotonic() > end:
            return
        yield index if chosen < 2 else round(index * (count - 1) / (chosen - 1))


def gallery(asked: Asked) -> list[Part]:
    """Return the pictures on which a network is best and worst, drawn, with words on how they were chosen."""
    model = judged("", asked.predictions(), asked.places)
    order = sorted(model.pictures, key=lambda number: _rank(model.pictures[number]))
    if not order:
        return []
    few_of = min(SHOWN, max(1, len(order) // 2))
    best = list(reversed(order))[: few_of if len(order) > 1 else 0]
    lines: list[str] = []
    drawn = [_drawn(asked, model, numbers, lines) for numbers in (order[:few_of], best)]
    files = iter(embedded([image for images in drawn for _, image in images]))
    names = {image.id: image.file for image in asked.images}
    rows = [
        [Figure(names[number], next(files), _alt(names[number], model.pictures[number]), [_caption(model, number)])
         for number, _ in images]
        for images in drawn
    ]  # fmt: skip
    key = legend(LEGENDS.get(asked.task, tuple(KINDS)))
    worst, best_ones = (Figures(figures, least=9, legend=marks) for figures, marks in zip(rows, (key, ()), strict=True))
    parts: list[Part] = [Words([_lead(asked, model, len(order))]), Words(["The worst"], "plain"), worst]
    parts += [Words(["The best"], "plain"), best_ones] if best else []
    return [*parts, *([Words(lines, "list")] if lines else [])]


def shown(ask: Callable[[], Asked]) -> tuple[list[Part], list[str]]:
    """Ask a network and return its gallery, or a line on why there is none: the rest of a page is worth having."""
    try:
        return gallery(ask()), []
    except Exception as error:  # whatever a network or a data set raises, after a training that is done
        return [], [f"No predictions are shown: {line_of(error, 240)}"]


def _rank(one: Judged) -> tuple[float, float]:
    return round(one.score, 9), one.tie


def _drawn(asked: Asked, model: Model, numbers: Sequence[int], lines: list[str]) -> list[tuple[int, Image.Image]]:
    """The pictures of these numbers; of each that cannot be drawn there is a line."""
    answers: Mapping[int, Any] = {row.image_id: row for row in asked.answers}
    masks, images = any(one.segmentation for one in asked.found) or asked.task == "segment", []
    for number in numbers:
        try:
            if asked.panel is not None:
                images.append((number, asked.panel(number, answers[number])))
                continue
            picture = asked.places[number]
            image = detected(opened(picture), picture, model.pictures[number], asked.classes, masks, SIDE)
            images.append((number, image))
        except (DualViTError, OSError, LookupError) as error:
            lines.append(f"picture {number} is not drawn: {' '.join(str(error).split())[:200]}")
    return images


def _caption(model: Model, number: int) -> str:
    one = model.pictures[number]
    return f"{one.score:.2f}" + (f": {tally(one)}" if model.confidence is not None else "")


def _alt(name: str, one: Judged) -> str:
    """What a picture shows, for who cannot see it."""
    return f"{name} with what the network says of it, score {one.score:.2f}"


def _lead(asked: Asked, model: Model, count: int) -> str:
    kind = "segment" if asked.task == "detect" and any(one.segmentation for one in asked.found) else asked.task
    every = f"each of {count}" if count == asked.total else f"{count} of {asked.total}, evenly spread,"
    words = f"Of the validation pictures, {every} had a prediction. The score of a picture is {MEASURES[kind]}."
    if asked.task == "classify":
        return f"{words} In a green frame, the right class is the most probable one; in a red one, it is not."
    if model.confidence is None:
        return words
    return f"{words} Objects count from confidence {model.confidence:.3f}, which gives most F1 over these pictures."
