"""A reader's desk: the pictures, the one that is open, and what one or two models say of it. It knows no web page."""

import importlib.util
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from dualvit.app.album import Picture, take_all
from dualvit.app.drawing import draw_found, letter
from dualvit.app.seen import Models, Seen, look, shown_size
from dualvit.errors import DualViTError, InputError, line_of
from dualvit.explain import Found, Subject
from dualvit.explain.attention import has_semantics
from dualvit.explain.methods import METHODS, Method
from dualvit.explain.show import map_picture

MOST = 100  # pictures on a desk
LINE = 400  # characters of what went wrong
USUAL = "usual"  # the method that suits the model


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
        room = max(MOST - len(self.pictures), 0)
        pictures, lines = take_all(files[:room])
        if len(files) > room:
            lines.append(f"{len(files) - room} pictures are left out, since {MOST} are here; load the page anew")
        self.pictures = pictures + self.pictures
        if pictures:
            self.open(0)
        return lines

    def open(self, index: int) -> None:
        """Choose one of the pictures; it is decoded when models look at it.

        Raises:
            ValueError: there is no such picture.
        """
        if not 0 <= index < len(self.pictures):
            raise InputError("this picture is no longer here; load the page anew")
        self.chosen, self.decoded, self.image = self.pictures[index], None, None

    def look(self, models: Models, wanted: Wanted) -> str:
        """Let the models look at the open picture; return what went wrong with the picture, or nothing."""
        self.panels = (Panel(wanted.models[0]), Panel(wanted.models[1]))
        if self.chosen is None:
            return "Choose a picture first: drop your own, or click one below."
        picture = self.chosen
        if problem := guarded(self._decode):
            return problem
        for panel in self.panels:
            if panel.name:
                panel.problem = guarded(partial(self._ask, panel, models, wanted))
        return picture.note

    def _decode(self) -> None:
        if self.decoded is None and self.chosen is not None:
            self.decoded = self.chosen.open()
            self.image = pil_to_tensor(self.decoded.resize(shown_size(self.decoded.size), Image.Resampling.BICUBIC))

    def _ask(self, panel: Panel, models: Models, wanted: Wanted) -> None:
        assert self.decoded is not None  # `look` has decoded it
        panel.seen = look(models.open(panel.name, wanted.image_size), self.decoded, wanted.confidence)

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

    def ahead(self, side: int, method: str) -> str:
        """Return what is about to be computed for a model's map; nothing if there is nothing to compute."""
        seen = self.panels[side].seen
        if seen is None or seen.choice is None:
            return ""
        wanted = method_of(seen.subject, method)
        if _key(wanted, seen.choice) in seen.maps:
            return ""
        return f"Looking at {seen.choice.name}: {wanted.name}, {counted(wanted.cost(seen.subject, seen.view))} ..."

    def map(self, side: int, method: str, opacity: float) -> tuple[Image.Image | None, str]:
        """Draw what a model looked at for the chosen object; return what it is, or why there is none, too."""
        seen = self.panels[side].seen
        if seen is None or seen.choice is None or self.image is None:
            return None, ""
        choice, picture = seen.choice, to_pil_image(self.image)
        drawn: list[Image.Image] = []
        words: list[str] = []

        def draw() -> None:
            wanted = method_of(seen.subject, method)
            key = _key(wanted, choice)
            if key not in seen.maps:
                start = time.perf_counter()
                values = wanted.map(seen.subject, seen.view, choice)
                seen.maps[key] = values, time.perf_counter() - start
            values, seconds = seen.maps[key]
            passes = counted(wanted.cost(seen.subject, seen.view))
            words.append(f"Looked at for {choice.name} {choice.score:.2f}: {wanted.name}, {passes} in {seconds:.1f} s")
            drawn.append(map_picture(picture, seen.view, values, choice, opacity=opacity, letter=letter(picture)))

        problem = guarded(draw)
        return (drawn[0], words[0]) if drawn else (None, problem)


def method_of(subject: Subject, name: str) -> Method:
    """Return a method by its name; for `USUAL` relevance of a network with semantics, and of another LayerCAM."""
    if name != USUAL:
        return METHODS[name]
    cams = importlib.util.find_spec("pytorch_grad_cam") is not None
    return METHODS["layercam" if cams and not has_semantics(subject.network) else "relevance"]


def counted(passes: int) -> str:
    """Return a number of passes in words.

    Example:
        >>> counted(1), counted(25)
        ('1 pass', '25 passes')
    """
    return f"{passes} pass{'es' if passes != 1 else ''}"


def _key(method: Method, found: Found) -> tuple[str, int, int]:
    return method.name, found.index, found.label


def guarded(step: Callable[[], None]) -> str:
    """Do something, and return the line of what went wrong, or nothing; with DUALVIT_DEBUG the terminal shows where."""
    try:
        step()
    except Exception as error:
        if os.environ.get("DUALVIT_DEBUG"):
            traceback.print_exception(error)
        kind = "" if isinstance(error, DualViTError | OSError) else f"{type(error).__name__}: "
        return kind + line_of(error, LINE)
    return ""
