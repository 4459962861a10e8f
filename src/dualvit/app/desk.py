"""A reader's desk: the pictures, the one that is open, and what one or two models say of it. It knows no web page."""

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from dualvit.app.album import Picture, take_all
from dualvit.app.drawing import draw_found, draw_map, shown
from dualvit.app.seen import Models, Seen, look
from dualvit.errors import DualViTError
from dualvit.app.placeholder import METHODS

MOST = 100  # pictures on a desk


@dataclass
class Panel:
    """A model's place on the desk.

    Attributes:
        name: Of the model; nothing if there is none.
        seen: What it said of the open picture.
        problem: Why it said nothing.
    """

    name: str = ""
    seen: Seen | None = None
    problem: str = ""


@dataclass(frozen=True)
class Wanted:
    """The settings of the page.

    Attributes:
        models: Names, of the second model or nothing.
        confidence: From which a box counts as found.
        image_size: Of the models' input; as trained if None.
    """

    models: tuple[str, str]
    confidence: float
    image_size: int | None


@dataclass
class Desk:
    """What a reader of the page has before them.

    Attributes:
        pictures: That can be chosen.
        chosen: The open one.
        decoded: Its pixels.
        image: The same as shown, uint8 (3, H, W).
        panels: One per model.
    """

    pictures: list[Picture] = field(default_factory=list)
    chosen: Picture | None = None
    decoded: Image.Image | None = None
    image: Tensor | None = None
    panels: tuple[Panel, Panel] = field(default_factory=lambda: (Panel(), Panel()))

    def add(self, files: Sequence[Path]) -> list[str]:
        """Take files as pictures, the first of them as the open one; return a line for each that cannot be used."""
        room = MOST - len(self.pictures)
        pictures, lines = take_all(files[:room])
        if len(files) > room:
            lines.append(f"{len(files) - room} pictures are left out, since {MOST} are here; load the page anew")
        self.pictures = pictures + self.pictures
        if pictures:
            self.open(0)
        return lines

    def open(self, index: int) -> None:
        """Choose one of the pictures; it is decoded when models look at it."""
        self.chosen, self.decoded, self.image = self.pictures[index], None, None

    def look(self, models: Models, wanted: Wanted) -> str:
        """Let the models look at the open picture; return what went wrong with the picture, or nothing."""
        self.panels = (Panel(wanted.models[0]), Panel(wanted.models[1]))
        if self.chosen is None:
            return "Choose a picture first: drop your own, or click one below."
        picture = self.chosen
        if self.decoded is None:
            try:
                self.decoded = picture.open()
            except Exception as error:
                return line_of(error)
        decoded = self.decoded
        for panel in self.panels:
            if panel.name:
                panel.problem = guarded(lambda panel=panel: self._ask(panel, models, wanted, decoded))  # type: ignore[misc]
        return picture.note

    def _ask(self, panel: Panel, models: Models, wanted: Wanted, picture: Image.Image) -> None:
        subject = models.open(panel.name, wanted.image_size)
        panel.seen = look(subject, picture, wanted.confidence)
        if self.image is None:
            self.image = shown(picture, panel.seen)

    def require(self, confidence: float) -> None:
        """Keep the boxes that are sure enough."""
        for panel in self.panels:
            if panel.seen is not None:
                panel.seen.require(confidence)

    def point(self, x: float, y: float) -> str:
        """Choose the smallest box at a pixel of what is shown, of each model; return a line if there is none."""
        hits = 0
        for seen in (panel.seen for panel in self.panels if panel.seen is not None):
            index = seen.at(x, y)
            if index is not None:
                seen.chosen, hits = index, hits + 1
        return "" if hits else "There is no box at this place; click into one, or take one from the list."

    def pick(self, side: int, index: int) -> None:
        """Choose a row of a model's list."""
        seen = self.panels[side].seen
        if seen is not None and 0 <= index < len(seen.found):
            seen.chosen = index

    def picture(self, side: int) -> Image.Image | None:
        """Draw what a model found; None if it said nothing."""
        seen = self.panels[side].seen
        return None if seen is None or self.image is None else draw_found(self.image, seen)

    def map(self, side: int, method: str, opacity: float) -> tuple[Image.Image | None, str]:
        """Draw what a model looked at for the chosen object; return why not, too."""
        seen = self.panels[side].seen
        if seen is None or seen.choice is None or self.image is None:
            return None, ""
        choice, image = seen.choice, self.image
        key = (method, choice.index, choice.label)
        drawn: list[Image.Image] = []

        def draw() -> None:
            if key not in seen.maps:
                seen.maps[key] = seen.view.on_picture(METHODS[method].run(seen.subject, seen.view, choice))
            drawn.append(draw_map(image, seen, seen.maps[key], opacity))

        problem = guarded(draw)
        return (drawn[0] if drawn else None), problem


def guarded(step: Callable[[], None]) -> str:
    """Do something, and return the line of what went wrong, or nothing."""
    try:
        step()
    except Exception as error:
        return line_of(error)
    return ""


def line_of(error: Exception) -> str:
    """Return one line of what went wrong; with DUALVIT_DEBUG the terminal shows where."""
    if os.environ.get("DUALVIT_DEBUG"):
        traceback.print_exception(error)
    text = " ".join(str(error).split())
    return text if isinstance(error, DualViTError | OSError) and text else f"{type(error).__name__}: {text}"
