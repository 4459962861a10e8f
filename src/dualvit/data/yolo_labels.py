"""Label files of the YOLO layout, read by Ultralytics' rules: boxes, polygons, and boxes with keypoints.

A line that cannot be read costs its picture, as with Ultralytics: the other objects would be taken for background.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.images import UnreadableError
from dualvit.errors import InputError
from dualvit.files import at_limit, cannot, is_file_there

Pair = tuple[Path, Path]
Object = tuple[int, int, list[float]]  # number of its line, class, coordinates
LEAST, MOST = np.float32(-0.01), np.float32(1.01)  # of a share: Ultralytics allows for rounding by so much
SHOWN = 3  # files that a message names
USES = {"train": "to train on", "val": "to validate on"}


def read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the words of each line that has any, with the line's number; none if there is no file.

    Raises:
        UnreadableError: it is no text, or cannot be opened.
        OSError: memory or open files have run out.
    """
    if not is_file_there(file):
        return []
    try:
        text = file.read_text(encoding="utf-8-sig")  # with the mark of Windows' editors, or without it
    except UnicodeDecodeError:
        raise UnreadableError(f"cannot read the labels {file}: they are no UTF-8 text; write them anew") from None
    except (OSError, MemoryError) as error:
        if at_limit(error):
            raise cannot("read", file, error) from None
        raise UnreadableError(str(cannot("read", file, error))) from None
    return [(number, words) for number, line in enumerate(text.splitlines(), 1) if (words := line.split())]


def read_objects(file: Path, classes: int | None, keypoints: int = 0) -> list[Object]:
    """Return the objects of a label file, each once: the line, the class, and 4 numbers of a box or those of a polygon.

    Args:
        file: A class and x y width height, or a class and x y x y x y ..., per line; no file, no objects.
        classes: How many there are; None takes any.
        keypoints: How many numbers follow a box in labels for pose; they are left out.

    Raises:
        UnreadableError: a line is malformed, is not in shares of width and height, or its class is not in the data set.
    """
    return _parse(file, classes, keypoints)[0]


def _parse(file: Path, classes: int | None, keypoints: int) -> tuple[list[Object], list[int]]:
    """The objects of a label file, and the numbers of lines that repeat one of them."""
    found: dict[tuple[bytes, int], Object] = {}
    repeated = []
    for number, words in read_rows(file):
        try:
            label, numbers = read_line(words, classes, keypoints)
        except UnreadableError as error:
            raise UnreadableError(f"{file}, line {number} {error}") from None
        values = np.array(numbers, np.float32)
        one = number, label, numbers
        if found.setdefault((values.tobytes(), label), one) is not one:
            repeated.append(number)
    return list(found.values()), repeated


def read_line(words: list[str], classes: int | None, keypoints: int = 0) -> tuple[int, list[float]]:
    """Return the class of an object, and 4 numbers of its box or those of its polygon.

    Args:
        words: Of its line.
        classes, keypoints: As for `read_objects`.

    Raises:
        UnreadableError: as `read_objects`; the message goes on from the number of the line.

    Example:
        >>> read_line(["1", "0.5", "0.5", "0.25", "0.25"], classes=2)
        (1, [0.5, 0.5, 0.25, 0.25])
    """
    try:
        label, *numbers = map(float, words)
    except ValueError:
        raise UnreadableError(f"is no polygon or box: {' '.join(words)[:60]!r} is not made of numbers") from None
    if keypoints and len(numbers) == 4 + keypoints:
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise UnreadableError(f"has {len(numbers)} numbers; a box has 4 and a polygon 6, 8, 10, ...")
    if label != label or label < 0 or label != label // 1 or (classes is not None and label >= classes):
        limit = f"data.yaml names 0 to {classes - 1}" if classes is not None else "give 0, 1, 2, ..."
        raise UnreadableError(f"has class {label:g}; {limit}")
    _check_shares(np.array(numbers, np.float32))
    return int(label), numbers


def _check_shares(values: np.ndarray[Any, Any]) -> None:
    """Hold an object's centre and size to Ultralytics' limits."""
    centre, size = values[:2], values[2:]
    if len(values) > 4:
        points = values.reshape(-1, 2)
        centre, size = (points.min(0) + points.max(0)) / 2, points.max(0) - points.min(0)
    box = np.concatenate([centre, size])
    if box.max() <= MOST and box.min() >= (0 if size.min() < 0 else LEAST):  # which NaN is not
        return
    beyond = values[~((values >= 0) & (values <= MOST))]
    value = beyond[0] if len(beyond) else values.max()
    raise UnreadableError(f"has the coordinate {value:g}; give shares of width and height, 0 to 1")


def first(items: Iterable[object], count: int) -> str:
    """Name the first few of so many."""
    shown = [str(item) for item, _ in zip(items, range(SHOWN), strict=False)]
    return ", ".join(shown) + (", ..." if count > len(shown) else "")


def _elsewhere(picture: Path, file: Path) -> list[str]:
    """Where the label file of a picture is instead: beside it, or in a folder of another name."""
    folder = next((parent for parent in file.parents if parent.name == "labels"), None)
    others = [other / file.relative_to(folder) for other in folder.parent.glob("*")] if folder else []
    return [f"there is {other}" for other in (picture.with_suffix(".txt"), *sorted(others)) if other.is_file()][:1]


def _words(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


class Labels:
    """Reads the label files of a split one by one, and keeps what there is to say of them.

    Args:
        name: Of the data set, for messages.
        split: train, val or test.
        classes, keypoints: As for `read_objects`.

    Attributes:
        pairs: Pictures with their label files, of which no line is malformed.
        unreadable: A line for each of the other label files.
        objects: How many there are in the files that can be read.
    """

    def __init__(self, name: str | Path, split: str, classes: int | None, keypoints: int = 0) -> None:
        self.name, self.split, self.classes, self.keypoints = name, split, classes, keypoints
        self.pairs: list[Pair] = []
        self.unreadable: list[str] = []
        self.objects = 0
        self._unread: list[Pair] = []
        self._missing: list[Path] = []
        self._counts: Counter[str] = Counter()
        self._lines: defaultdict[str, list[str]] = defaultdict(list)

    def read(self, picture: Path, file: Path) -> list[Object] | None:
        """Return the objects of a picture; None if its label file cannot be read, which is listed."""
        try:
            objects, repeated = _parse(file, self.classes, self.keypoints)
        except UnreadableError as error:
            self.unreadable.append(str(error))
            self._unread.append((picture, file))
            return None
        self.glance(picture, file)
        self.objects += len(objects)
        self._count("repeated", file, repeated)
        self._count("box", file, [number for number, _, numbers in objects if len(numbers) == 4])
        return objects

    def _count(self, what: str, file: Path, numbers: list[int]) -> None:
        """Count lines of a file, and keep the first few that there are of their kind."""
        self._counts[what] += len(numbers)
        room = SHOWN - len(self._lines[what])
        self._lines[what] += [f"{file}, line {number}" for number in numbers[:room]]

    def glance(self, picture: Path, file: Path) -> None:
        """Take a picture's label file as it is, and look only whether it is there."""
        self.pairs.append((picture, file))
        if not file.is_file():
            self._missing.append(file)

    def read_all(self, pairs: Iterable[Pair]) -> "Labels":
        """Read the label files of all pictures."""
        for picture, file in pairs:
            self.read(picture, file)
        return self

    def require_some(self) -> None:
        """Stop if no label file has an object: a training would learn nothing, and a score would mean nothing.

        Raises:
            ValueError: with the first files and what is wrong with them.
        """
        if self.objects:
            return
        total, missing = len(self.pairs) + len(self.unreadable), self._missing
        which = f"{self.name}: none of its {total} images {USES.get(self.split, f'of {self.split}')}"
        if self.unreadable:
            raise InputError(f"{which} has a label that can be read: {'; '.join(self.unreadable[:SHOWN])}")
        if len(missing) == total:
            second = f", and the next at {first(missing[1:SHOWN], total - 1)}" if total > 1 else ""
            hints = "".join(f"; {line}" for line in (*_elsewhere(*self.pairs[0]), *self._strays()))
            raise InputError(
                f"{which} has a label; the first is expected at {missing[0]}{second}{hints}; put label files there"
            )
        absent = set(missing)
        empty = [file for _, file in self.pairs if file not in absent]
        raise InputError(f"{which} has an object: empty label files, such as {first(empty, len(empty))}; label some")

    def notes(self, boxes: bool = False) -> tuple[str, ...]:
        """Return what was left out or looks wrong, with counts and the first files, a line each.

        Args:
            boxes: Whether to speak of boxes, which is for those who draw polygons.
        """
        lines = []
        if count := len(self.unreadable):
            said = _words(
                count, "label file cannot be read: its image is", "label files cannot be read: their images are"
            )
            lines.append(f"{said} left out; {'; '.join(self.unreadable[:SHOWN])}{'; ...' if count > SHOWN else ''}")
        if count := len(self._missing):
            said = _words(count, "image has no label file and counts", "images have no label file and count")
            lines.append(f"{said} as background; looked for {first(self._missing, count)}")
        if count := self._counts["repeated"]:
            said = _words(count, "line repeats another one and is", "lines repeat another one of their file and are")
            lines.append(f"{said} left out: {first(self._lines['repeated'], count)}")
        if boxes and (count := self._counts["box"]):
            said = _words(count, "object is a box, which is", "objects are boxes, which are")
            lines.append(f"{said} drawn filled: {first(self._lines['box'], count)}")
        return tuple(f"{self.name} {self.split}: {line}" for line in (*lines, *self._strays()))

    def _strays(self) -> list[str]:
        """A line for each folder of labels that has files without a picture, if pictures lie elsewhere."""
        folders: dict[Path, set[Path]] = {}
        for picture, file in (*self.pairs, *self._unread):
            folders.setdefault(file.parent, set()).add(picture.parent)
        lines = []
        for folder, pictures in folders.items():
            if folder in pictures or not folder.is_dir():
                continue
            there = (file.stem for place in pictures if place.is_dir() for file in place.iterdir())
            known = {*there, "classes"}  # labelImg writes classes.txt beside the labels
            strays = sorted(file for file in folder.glob("*.txt") if file.stem not in known)
            if strays:
                files = _words(len(strays), "label file has", "label files have")
                lines.append(f"{files} no image: {first(strays, len(strays))}")
        return lines
