"""How faithful methods are on the boxes of real pictures: deletion, insertion and evidence, with intervals."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from dualvit.data.images import UnreadableError, open_rgb
from dualvit.data.listing import image_files
from dualvit.data.yolo_layout import find_yaml, read_pairs
from dualvit.errors import InputError, line_of
from dualvit.explain.curves import Removal, curves, evidence
from dualvit.explain.intervals import Interval, interval
from dualvit.explain.methods import Method
from dualvit.explain.subject import Found, Subject, View

Progress = Callable[[int, int], None]
MEASURES = ("deletion", "insertion", "inside", "near", "far")


@dataclass(frozen=True)
class BoxScore:
    """A method on one object.

    Attributes:
        picture: The file, under the folder of all pictures.
        index: The object's place among those of the picture, the surest first.
        name, score: Its class and the network's score.
        method: What explained it.
        deletion, insertion: Areas under the curves, 0 to 1: a low deletion and a high insertion are good.
        left: Share of the score that the baseline alone keeps.
        inside, near, far: Shares of the evidence; None of a classifier, or without evidence.
        passes: Forward passes of the map.
        seconds: For the map.
    """

    picture: str
    index: int
    name: str
    score: float
    method: str
    deletion: float
    insertion: float
    left: float
    inside: float | None
    near: float | None
    far: float | None
    passes: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """All scores of a network.

    Attributes:
        scores: Of each object and method.
        failures: Methods that failed, with the reason: those that failed at once have no scores.
        skipped: A line per picture that could not be read.
    """

    scores: tuple[BoxScore, ...]
    failures: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def methods(self) -> list[str]:
        """Return the methods that have scores, in order."""
        return list(dict.fromkeys(one.method for one in self.scores))

    def of(self, method: str, measure: str) -> dict[tuple[str, int], float]:
        """Return a measure of each object that has it, by picture and place."""
        rows = [one for one in self.scores if one.method == method and getattr(one, measure) is not None]
        return {(one.picture, one.index): float(getattr(one, measure)) for one in rows}

    def mean(self, method: str, measure: str) -> Interval | None:
        """Return the mean of a measure; None if no object has it."""
        values = self.of(method, measure)
        return interval((picture, value) for (picture, _), value in values.items()) if values else None

    def difference(self, method: str, other: str, measure: str) -> Interval | None:
        """Return the mean of a method minus another one, over the objects that both have."""
        one, two = self.of(method, measure), self.of(other, measure)
        both = [key for key in one if key in two]
        return interval((key[0], one[key] - two[key]) for key in both) if both else None

    def summary(self) -> dict[str, Any]:
        """Return means, and the differences of all pairs of methods, as JSON holds them."""
        names = self.methods()
        pairs = [(one, two) for place, one in enumerate(names) for two in names[place + 1 :]]
        return {
            "boxes": len({(one.picture, one.index) for one in self.scores}),
            "pictures": len({one.picture for one in self.scores}),
            "left": _plain({"left": self.mean(names[0], "left")})["left"] if names else None,
            "methods": {
                name: _plain({measure: self.mean(name, measure) for measure in MEASURES})
                | {"passes": _middle(self.of(name, "passes")), "seconds": _middle(self.of(name, "seconds"))}
                for name in names
            },
            "differences": [
                {"method": one, "minus": two}
                | _plain({measure: self.difference(one, two, measure) for measure in MEASURES[:2]})
                for one, two in pairs
            ],
            "failures": self.failures,
            "skipped": list(self.skipped),
        }

    def table(self, title: str) -> Table:
        """Return the means as a table, and under it the differences to the first method."""
        names = self.methods()
        table = Table(title=title, box=None, header_style="bold", title_justify="left")
        for column in ("method", "deletion, low is good", "insertion, high is good", "inside", "near", "far", "passes"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for name in names:
            means = [self.mean(name, measure) for measure in MEASURES]
            plain = [f"{one.mean:.2f}" if one else "" for one in means[2:]]
            passes = f"{_middle(self.of(name, 'passes')):g}"
            table.add_row(name, *(str(one or "") for one in means[:2]), *plain, passes)
        for name in names[1:]:
            both = [self.difference(names[0], name, measure) for measure in MEASURES[:2]]
            table.add_row(f"{names[0]} minus {name}", *(str(one or "") for one in both))
        for name, reason in self.failures.items():
            table.add_row(f"{name} failed {reason}")
        return table


def _plain(values: dict[str, Interval | None]) -> dict[str, Any]:
    return {name: None if one is None else asdict(one) for name, one in values.items()}


def _middle(values: dict[tuple[str, int], float]) -> float:
    return float(torch.tensor(list(values.values())).median()) if values else 0.0


class Journal:
    """Scores on disk, a line each, so that a run that was stopped goes on.

    Args:
        file: Is made if it is not there; None keeps nothing.
        about: What the scores depend on; a file that says something else is refused.

    Raises:
        ValueError: the file holds scores of other settings.
    """

    def __init__(self, file: Path | None, about: dict[str, Any]) -> None:
        self.file = file
        self.scores: dict[tuple[str, int, str], BoxScore] = {}
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines() if file.is_file() else []
        rows = [row for line in lines if (row := _row(line)) is not None]
        if rows and rows[0] != about:
            raise InputError(f"{file} holds scores of other settings ({rows[0]}); delete it or give another folder")
        if not rows:
            file.write_text(json.dumps(about) + "\n")
        for row in rows[1:]:
            score = BoxScore(**row)
            self.scores[score.picture, score.index, score.method] = score

    def add(self, score: BoxScore) -> None:
        """Note a score, and write it."""
        self.scores[score.picture, score.index, score.method] = score
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(asdict(score)) + "\n")


def _row(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # a kill in the middle of a line: that score is measured again
        return None


def files_of(data: Path, splits: Sequence[str] = ("val",)) -> list[Path]:
    """Return the pictures of a data.yaml's splits, or of a folder without one.

    Raises:
        FileNotFoundError: there are none.
        ValueError: no such split.
    """
    file = find_yaml(data)
    if file is None:
        return image_files([data])
    return [picture for split in splits for picture, _ in read_pairs(file, split)[1]]


def measure(
    subject: Subject, files: Sequence[Path], methods: Sequence[Method], removal: Removal | None = None,
    boxes: int = 100, journal: Journal | None = None, progress: Progress = lambda done, total: None,
) -> Measured:  # fmt: skip
    """Score methods on the objects that a network finds in pictures, until there are enough.

    A method that fails on the network gets no scores and a line that says why; the others go on.

    Args:
        subject: The network.
        files: Pictures, in the order in which they are taken.
        methods: What explains.
        removal: How pixels are taken away.
        boxes: So many objects are enough.
        journal: Keeps scores; what it holds is not measured again.
        progress: Called with (done, wanted) after each object.
    """
    removal, journal = removal or Removal(), journal or Journal(None, {})
    failures: dict[str, list[str]] = {}
    skipped: list[str] = []
    scores: list[BoxScore] = []
    taken = 0
    for name, index, view, found in itertools.islice(_objects(subject, files, skipped), boxes):
        for method in methods:
            works = any(one.method == method.name for one in scores)
            if method.name in failures and not works:
                continue
            try:
                score = journal.scores.get((name, index, method.name))
                if score is None:
                    score = score_box(subject, view, found, method, removal)
                    score = replace(score, picture=name, index=index)
                    journal.add(score)
                scores.append(score)
            except Exception as error:  # whatever a method raises on a network that it does not fit
                failures.setdefault(method.name, []).append(line_of(error))
        taken += 1
        progress(taken, boxes)
    place = {method.name: number for number, method in enumerate(methods)}
    lines = {name: f"on {len(some)} of {taken} objects: {some[0]}" for name, some in failures.items()}
    return Measured(tuple(sorted(scores, key=lambda one: place[one.method])), lines, tuple(skipped))


def score_box(subject: Subject, view: View, found: Found, method: Method, removal: Removal) -> BoxScore:
    """Score a method on one object; picture and index are left open."""
    passes, began = method.cost(subject, view), time.perf_counter()
    values = method.map(subject, view, found)
    seconds = time.perf_counter() - began
    areas = curves(subject, view, found, values, removal)
    where = evidence(values, found.box) if found.box is not None else None
    inside, near, far = (where.inside, where.near, where.far) if where is not None else (None, None, None)
    deletion, insertion = areas.areas
    return BoxScore(
        "", 0, found.name, found.score, method.name, deletion, insertion, areas.left, inside, near, far, passes,
        round(seconds, 3),
    )  # fmt: skip


def _objects(subject: Subject, files: Sequence[Path], skipped: list[str]) -> Iterator[tuple[str, int, View, Found]]:
    """Yield the objects of each picture, with its path under the folder of all; of a classifier the surest class."""
    root = Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path()
    for file in files:
        try:
            view = subject.view(open_rgb(file))
        except UnreadableError as error:
            skipped.append(str(error))
            continue
        with torch.no_grad():
            found = subject.found(subject.answers(subject.network(view.images))[0])
        for index, one in enumerate(found if subject.detects else found[:1]):
            yield file.absolute().relative_to(root).as_posix(), index, view, one
