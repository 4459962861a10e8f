"""The page that a training ends in, from what any trainer knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualvit.command import command_line
from dualvit.pictures.epochs import Line, over_epochs
from dualvit.report.page import Command, Facts, Figure, Figures, Page, Part, Section, Words

LIMITS = (  # of every training that ends in a best checkpoint
    "The score is that of the epoch that scored best on the validation pictures, on the same pictures: that flatters "
    "it. Pictures that had no part in the choice, such as a test split, may give less.",
    "One training says nothing about chance. dualvit compare trains several seeds, and says how far they lie apart.",
    "The pictures are chosen for their score, and so do not show what the network does on the whole.",
    "The figures hold for pictures such as these, from the same source. Another camera or another place may differ.",
)


@dataclass(frozen=True)
class Curve:
    """A picture of values over epochs.

    Attributes:
        title: Above it.
        names: What its lines are called, each with the key of its values in the rows of the history.
        percent: Whether the values are shares, and drawn in hundredths.
    """

    title: str
    names: Mapping[str, str]
    percent: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training came to.

    Attributes:
        what: The command, such as "dualvit recipe fit".
        title: What was trained, and on which data.
        result: What came out, in a sentence.
        tiles: A few numbers, each with its words.
        settings: Those that a reader looks for first.
        every: All settings.
        history: A row for each epoch; its number is `epoch`.
        curves: What is drawn of the history.
        best: The epoch that counts as the best one.
        results: What the best epoch is worth.
        predictions: The best and the worst ones, see `gallery`.
        explanations: Why the network says so: a caption and a PNG each.
        environment: Versions, commit, date and hardware, see `dualvit.provenance.environment`.
        origin: What else decides the result, such as the seed and the folder.
        limits: What the figures do not show.
        lines: What could not be used, or is left out.
    """

    what: str
    title: str
    result: str
    tiles: Sequence[tuple[str, str]] = ()
    settings: Sequence[tuple[str, str]] = ()
    every: Sequence[tuple[str, str]] = ()
    history: Sequence[Mapping[str, float]] = ()
    curves: Sequence[Curve] = ()
    best: float | None = None
    results: Sequence[Part] = ()
    predictions: Sequence[Part] = ()
    explanations: Sequence[tuple[str, bytes]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    origin: Sequence[tuple[str, str]] = ()
    limits: Sequence[str] = ()
    lines: Sequence[str] = ()


def training_page(training: Training) -> Page:
    """Return the page of a training; a section of which nothing is known is left out."""
    explained = [Figure(caption, picture) for caption, picture in training.explanations]
    sections: list[tuple[str, list[Part]]] = [
        ("Course of the training", _course(training)),
        ("Results", list(training.results)),
        ("Predictions", list(training.predictions)),
        ("Why it says so", [Figures(explained)] if explained else []),
        ("Settings", [
            *([Facts(training.settings)] if training.settings else []),
            *([Facts(training.every, folded="all settings")] if training.every else []),
        ]),
        ("How to get it again", [Command(command_line()), Facts([*training.origin, *_facts(training.environment)])]),
        ("What could not be used", [Words(training.lines, "list")] if training.lines else []),
        ("What the figures do not show", [Words(training.limits, "list")] if training.limits else []),
    ]  # fmt: skip
    shown = [Section(title, parts) for title, parts in sections if parts]
    return Page(training.what, training.title, training.result, training.tiles, shown)


def _course(training: Training) -> list[Part]:
    """The curves."""
    figures = [
        figure for curve in training.curves if (figure := _drawn(curve, training.history, training.best)) is not None
    ]
    return [Figures(figures, columns=2 if len(figures) in (2, 4) else 3)] if figures else []


def _drawn(curve: Curve, history: Sequence[Mapping[str, float]], best: float | None) -> Figure | None:
    lines, scale = [], 100 if curve.percent else 1
    for label, key in curve.names.items():
        known = [(row["epoch"], scale * row[key]) for row in history if key in row and row[key] == row[key]]
        if known:
            lines.append(Line(label, *zip(*known, strict=True)))
    if not lines or not (curve.percent or any(any(line.values) for line in lines)):
        return None  # nothing is known; or a loss that the network does not have, which is 0
    ends = ", ".join(f"{line.label} from {line.values[0]:.4g} to {line.values[-1]:.4g}" for line in lines)
    title = f"{curve.title}, %" if curve.percent else curve.title
    return Figure(title, over_epochs(lines, best), f"{title} over epochs: {ends}")


def _facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a result comes from, as a reader sees it."""
    if not environment:
        return []
    return [
        ("machine", str(environment["hardware"])),
        ("versions", ", ".join(f"{name} {number}" for name, number in environment["versions"].items())),
        ("commit", str(environment["commit"] or "not in git")),
        ("date", str(environment["date"])),
    ]


def in_words(value: Any) -> str:
    """Return a setting as a reader sees it.

    Example:
        >>> in_words(0.30000000000000004), in_words(None), in_words([1, 2]), in_words({"a": 1})
        ('0.3', 'none', '1, 2', 'a=1')
    """
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={in_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    return str(value)


def of_data(place: str) -> str:
    """Return what a page calls a data set: its folder, or its YAML if that has a name of its own.

    Example:
        >>> of_data("/data/raccoon/data.yaml"), of_data("coco8.yaml"), of_data("/data/flowers/")
        ('raccoon', 'coco8', 'flowers')
    """
    path = Path(place)
    if path.suffix not in (".yaml", ".yml"):
        return path.name or place
    return path.absolute().parent.name if path.stem == "data" else path.stem


def short(file: Path, folders: int = 1) -> str:
    """Return the end of a picture's path: a page need not say where a disk is mounted.

    Example:
        >>> short(Path("/mnt/disk/raccoon/images/val/1.jpg"))
        'val/1.jpg'
    """
    return Path(*file.parts[-1 - folders :]).as_posix()


def took(seconds: float) -> str:
    """Return a time as a reader says it.

    Example:
        >>> took(42.3), took(600), took(9000)
        ('42 s', '10.0 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
