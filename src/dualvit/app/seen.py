"""What a model says of a picture, and what it looked at: computed once, and kept for one picture."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dualvit.explain import Answers, Found, Subject, View
from dualvit.explain.opening import open_subject

LONG = 1000  # pixels of the longer side of what is shown
CLASSES = 5  # of a classifier that are shown, the likeliest
OPEN = 3  # models that stay in memory


@dataclass
class Seen:
    """What a model said of a picture.

    Attributes:
        subject: The model.
        view: The picture as the model saw it; maps and boxes are brought to the size that is shown.
        outputs: Of the network.
        answers: What they mean.
        milliseconds: From the decoded picture to the boxes.
        found: What is shown, the surest first.
        chosen: Which of these is explained.
        maps: For methods and rows of the answers, (H, W) of the view's images, and the seconds that it took.
    """

    subject: Subject
    view: View
    outputs: Any
    answers: Answers
    milliseconds: float
    found: list[Found] = field(default_factory=list)
    chosen: int | None = None
    maps: dict[tuple[str, int, int], tuple[Tensor, float]] = field(default_factory=dict)

    def require(self, confidence: float) -> None:
        """Keep what is at least so sure; what was chosen stays so, if it is kept, else the surest is."""
        before = self.choice
        detects = self.subject.detects
        found = self.subject.found(self.answers, confidence) if detects else self.subject.found(self.answers, 0.0)
        self.found = found if detects else found[:CLASSES]
        self.chosen = self.found.index(before) if before in self.found else 0 if self.found else None

    @property
    def surest(self) -> float:
        """The largest score of all that the model considered, whether shown or not."""
        scores = self.answers.scores
        return float(scores.max()) if scores.numel() else 0.0

    @property
    def choice(self) -> Found | None:
        """What is explained."""
        return None if self.chosen is None else self.found[self.chosen]

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Return the boxes in pixels of what is shown; none of a classifier."""
        return [self.view.box_on_picture(found.box) for found in self.found if found.box is not None]

    def at(self, x: float, y: float) -> int | None:
        """Return which of the boxes at a pixel is the smallest; None if there is none."""
        sizes = {
            index: (right - left) * (bottom - top)
            for index, (left, top, right, bottom) in enumerate(self.boxes())
            if left <= x <= right and top <= y <= bottom
        }
        return min(sizes, key=sizes.__getitem__) if sizes else None

    def covered(self) -> Tensor | None:
        """Return which object each pixel belongs to, (height, width), from 1 on; 0 is none. None without masks."""
        with torch.no_grad():
            masks = self.subject.masks(self.outputs, self.found)
        if not masks:
            return None
        places = torch.zeros(self.view.size[::-1], dtype=torch.int64)
        for number, (mask, box) in reversed(list(enumerate(zip(masks, self.boxes(), strict=True), 1))):  # surest on top
            left, top, right, bottom = (round(side) for side in box)
            inside = self.view.on_picture(mask)[top:bottom, left:right] > 0  # a mask ends with its box
            places[top:bottom, left:right][inside] = number
        return places


def look(subject: Subject, picture: Image.Image, confidence: float) -> Seen:
    """Ask a model about a picture.

    Args:
        subject: The model.
        picture: RGB, of any size.
        confidence: From which a box counts as found.
    """
    with torch.no_grad():
        subject.network(subject.view(picture).images)  # the first call at a size prepares what later ones find
        start = time.perf_counter()
        view = subject.view(picture)
        outputs = subject.network(view.images)
        answers = subject.answers(outputs)[0]
        subject.found(answers, confidence)
        milliseconds = 1000 * (time.perf_counter() - start)
    seen = Seen(subject, replace(view, size=shown_size(picture.size)), outputs, answers, milliseconds)
    seen.require(confidence)
    return seen


def shown_size(size: Sequence[int]) -> tuple[int, int]:
    """Return width and height as shown of a picture of a width and a height.

    Example:
        >>> shown_size((4000, 3000)), shown_size((1, 1))
        ((1000, 750), (1000, 1000))
    """
    factor = LONG / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


class Models:
    """The models in use, opened when they are asked for; the least recent ones are closed.

    Args:
        files: By the names that the page shows.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files
        self._open: OrderedDict[tuple[str, int | None, int], Subject] = OrderedDict()

    def open(self, name: str, image_size: int | None = None) -> Subject:
        """Return a model.

        Args:
            name: One that the page offers.
            image_size: Of its input; the size that it was trained at if left out.

        Raises:
            KeyError: the page does not offer it.
            ValueError: it cannot be used.
        """
        file = self.files[name]
        key = (name, image_size, file.stat().st_mtime_ns if file.exists() else 0)  # a training may write it again
        if key not in self._open:
            self._open[key] = open_subject(file, image_size=image_size)
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]
