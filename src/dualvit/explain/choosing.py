"""Which objects of a picture are explained, and by which methods."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from dualvit.errors import InputError
from dualvit.explain.attention import has_semantics
from dualvit.explain.methods import METHODS, Method, methods_of
from dualvit.explain.subject import CONFIDENCE, Found, Subject, Target

MOST = 3  # objects that get maps, if none is named
LISTED = 20  # names of classes in a message


@dataclass(frozen=True)
class Wanted:
    """What is to be explained.

    Attributes:
        methods: Their names, split by commas; relevance and LayerCAM, the two most faithful ones of a few passes, if
            left out.
        number: One object alone: its place among those that are found, from 0.
        label: The objects of this class alone, or this class of a classifier.
        confidence: From which an object counts as found.
        stage: Whose regions are drawn, from 0; a default if left out.
        most: So many objects get maps, the surest first.
        target: In place of objects, any number of the network's outputs: gets the outputs for one image, and returns a
            tensor of one value.
        called: What pictures call the target.

    Example:
        >>> Wanted("relevance", label="cat").most
        3
    """

    methods: str = ""
    number: int | None = None
    label: str | None = None
    confidence: float = CONFIDENCE
    stage: int | None = None
    most: int = MOST
    target: Target | None = None
    called: str = "target"

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise InputError(f"confidence is {self.confidence}; give a number from 0 to 1")
        if self.most < 1:
            raise InputError(f"most is {self.most}; explain 1 object or more")
        if self.number is not None and self.label is not None:
            raise InputError(f"object {self.number} and class {self.label} are both named; give one of the two")
        if self.methods:
            methods_of(self.methods)

    def methods_for(self, subject: Subject) -> tuple[list[Method], list[str]]:
        """Return the methods for a network, and a line on what it does not have."""
        dual, installed = has_semantics(subject.network), importlib.util.find_spec("pytorch_grad_cam") is not None
        notes = []
        if not dual:
            notes.append(
                f"{type(subject.network).__name__} has no semantics of Dual-ViT, so there are no regions and no "
                f"attention; it has maps by {', '.join(METHODS)}"
            )
        if self.methods:
            return methods_of(self.methods), notes
        if not installed:
            notes.append("LayerCAM is left out, since grad-cam is not installed; install dualvit[explain]")
        names = ["relevance"] + ["layercam"] * installed
        return [METHODS[name] for name in names], notes


def chosen(subject: Subject, outputs: Any, wanted: Wanted) -> tuple[list[Found], list[int], list[str]]:
    """Choose what is explained.

    Args:
        subject: What is explained.
        outputs: Of its network, for one image.
        wanted: The wishes.

    Returns:
        All that was found, the surest first; the places of what is explained; and a line if nothing is.

    Raises:
        ValueError: the object is not there, or there is no such class.
    """
    if wanted.target is not None:
        value = wanted.target(outputs)
        if value.numel() != 1:
            raise InputError(f"the target gives {value.numel()} values; return one, such as outputs[0, 3]")
        return [Found(0, wanted.called, float(value), 0, target=wanted.target)], [0], []
    if wanted.label is not None and wanted.label not in subject.classes:
        raise InputError(f"no class {wanted.label!r}; the model knows {_listed(subject.classes)}")
    answers = subject.answers(outputs)[0]
    found = subject.found(answers, wanted.confidence)
    if not subject.detects:
        every = subject.found(answers, 0.0)
        found = found or every[:1]
        if wanted.label is not None and wanted.label not in [one.name for one in found]:
            found = [*found, next(one for one in every if one.name == wanted.label)]
    numbers = [place for place, one in enumerate(found) if wanted.label in (None, one.name)]
    if wanted.number is not None:
        if not 0 <= wanted.number < len(found):
            raise InputError(f"object {wanted.number} is not there: {_counted(subject, found, wanted)}")
        return found, [wanted.number], []
    if not numbers:
        what = f"no {wanted.label}" if wanted.label else "nothing"
        return (
            found,
            [],
            [f"{what} was found above confidence {wanted.confidence:g}{_surest(subject, answers, wanted)}"],
        )
    left = len(numbers) - wanted.most
    lines = [f"{left} more found, without maps: the {wanted.most} surest have some"] if left > 0 else []
    return found, numbers[: wanted.most], lines


def _counted(subject: Subject, found: list[Found], wanted: Wanted) -> str:
    what = "objects were" if subject.detects else "classes are"
    count = f"{len(found)} {what} found above confidence {wanted.confidence:g}"
    if len(found) == 1:
        count = count.replace("objects were", "object was").replace("classes are", "class is")
    return f"{count}, {'number 0' if len(found) == 1 else f'numbers 0 to {len(found) - 1}'}" if found else count


def _surest(subject: Subject, answers: Any, wanted: Wanted) -> str:
    """What would have been found with less confidence."""
    others = [one for one in subject.found(answers, 0.0) if wanted.label in (None, one.name)]
    if not others:
        return ""
    return f"; the surest is {others[0].name} {others[0].score:.3f}: lower the confidence for it"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
