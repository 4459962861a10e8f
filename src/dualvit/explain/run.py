"""Explanations of a picture, of a folder or of a video, written as files: what `dualvit explain` does."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dualvit.data.frames import VIDEOS, frames_of
from dualvit.data.images import UnreadableError, open_rgb, opened_file
from dualvit.data.listing import image_files
from dualvit.errors import DualViTError, MissingFileError, line_of
from dualvit.explain.choosing import Wanted
from dualvit.explain.explanation import Explanation, Progress, explain
from dualvit.explain.reads import reads_arrays, reads_picture
from dualvit.explain.subject import Subject
from dualvit.files import LONGEST_NAME, at_limit, cut_name, read_json, write_atomic, write_json
from dualvit.pictures.differences import encoded
from dualvit.provenance import environment
from dualvit.weights.read import sha256

EVERY, FRAMES = 30, 20  # of a video: the step between frames, and the most of them
ENDINGS = (".png", ".npz", ".json")
READS = "-attention"  # ends the name of the picture of who reads where
SINGLE = ("MPO",)  # formats whose further pictures are no other moments
FORMAT = 1  # of what is written: explanations of another one are made anew


@dataclass(frozen=True)
class Source:
    """What is explained.

    Attributes:
        path: A picture, a folder of pictures or a video.
        every, frames: Of a video each so manieth frame, and so many at most.
    """

    path: Path
    every: int = EVERY
    frames: int = FRAMES

    @property
    def video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEOS and not self.path.is_dir()


@dataclass(frozen=True)
class One:
    """A picture that is about to be explained.

    Attributes:
        name: For messages.
        stem: What files of it are called.
        key: Says which picture it is: its bytes, and the frame.
        picture: Upright.
        notes: Lines on the file.
    """

    name: str
    stem: str
    key: str
    picture: Image.Image
    notes: tuple[str, ...] = ()


@dataclass
class Done:
    """What came of it.

    Attributes:
        written: Sheets that were written.
        earlier: Pictures that were explained before, by the same model and settings.
        failed: Lines on pictures that could not be explained.
    """

    written: list[Path] = field(default_factory=list)
    earlier: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run(
    subject: Subject, source: Source, out: Path, wanted: Wanted, about: dict[str, Any],
    say: Callable[[str], None] = print, progress: Progress = lambda done, total, what: None, attention: bool = False,
) -> Done:  # fmt: skip
    """Explain a picture, each picture of a folder, or frames of a video.

    Args:
        subject: What is explained.
        source: The pictures.
        out: Takes NAME.png, NAME.npz and NAME.json of each; what is there stays.
        wanted: Which objects, by which methods.
        about: Says which model it is; explanations of the same pictures, model and wishes are not made again.
        say: Gets the lines of the report, the number of passes first.
        progress: Called with (done, total, what), of the maps of one picture.
        attention: Write who reads where as well, head by head: NAME-attention.png, and arrays in NAME.npz.

    Raises:
        FileNotFoundError: there is no such file, or the folder has no pictures.
        ValueError: a single picture cannot be explained.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = _settings(wanted, about | ({"attention": True} if attention else {}))
    done, announced = Done(), False
    alone = not source.path.is_dir() and not source.video
    for count, one in _ones(source, out, say):
        try:
            if isinstance(one, Exception):
                raise one
            stem, there = _stem(out, one, settings)
            if there:
                done.earlier.append(out / f"{stem}.png")
                continue
            if not announced:
                _announce(subject, one, wanted, count, say)
                announced = True
            explanation = explain(subject, one.picture, wanted, progress)
            about_one = {"picture": one.name, "key": one.key, "settings": settings}
            write(explanation, out, stem, about_one, one.notes, attention)
            done.written.append(out / f"{stem}.png")
            _report(one, explanation, subject, out / f"{stem}.png", say)
        except (DualViTError, OSError) as error:
            if alone or at_limit(error):
                raise
            done.failed.append(line_of(error))
            say(f"not explained: {line_of(error)}")
    return done


def write(
    explanation: Explanation, out: Path, stem: str, about: dict[str, Any], notes: Sequence[str] = (),
    attention: bool = False,
) -> None:  # fmt: skip
    """Write an explanation: its sheet, its maps, and last the JSON, whose presence says that all is there."""
    arrays: dict[str, Any] = {one.key: one.values.numpy() for one in explanation.maps}
    arrays["content"], arrays["size"] = np.array(explanation.view.content), np.array(explanation.picture.size)
    if explanation.stage is not None:
        regions = explanation.regions().numpy()
        arrays["regions"] = regions.astype(np.min_scalar_type(regions.max()))  # a large picture has over 256 tokens
    if attention and explanation.stage is not None:
        arrays |= reads_arrays(explanation.attention)
        reads = reads_picture(explanation.picture, explanation.view, explanation.attention, explanation.stage)
        write_atomic(out / f"{stem}{READS}.png", encoded(reads, "PNG"))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(out / f"{stem}.npz", buffer.getvalue())
    write_atomic(out / f"{stem}.png", encoded(explanation.sheet(), "PNG"))
    plain = explanation.plain()
    plain["notes"] = [*notes, *plain["notes"]]
    write_json(out / f"{stem}.json", about | plain | environment(False))


def _settings(wanted: Wanted, about: dict[str, Any]) -> dict[str, Any]:
    """What decides an explanation, as JSON gives it back."""
    wishes = {key: value for key, value in asdict(wanted).items() if key not in ("target", "called")}
    return json.loads(json.dumps({"format": FORMAT, **about, **wishes}))


def _ones(source: Source, out: Path, say: Callable[[str], None]) -> Iterator[tuple[int, One | Exception]]:
    """All pictures, each with their number at most; in place of one that cannot be read its error."""
    path = source.path
    if not path.exists():
        raise MissingFileError(f"no picture, folder or video at {path}")
    if source.video:
        with closing(frames_of(path, source.every, source.frames)) as frames:
            say(f"{path.name}: every {_nth(source.every)}frame, {source.frames} at most")
            digest = sha256(path)
            for number, picture in frames:
                name = f"{path.name}, frame {number}"
                yield source.frames, One(name, f"{path.stem}-{number:06d}", f"{digest}-{number}", picture)
        return
    lines: list[str] = []
    files = [file for file in image_files([path], out, lines) if not _is_sheet(file, out)]
    for line in lines:
        say(line)
    if not files:
        raise MissingFileError(f"no pictures in {path} but those that were written here before")
    for file in files:
        try:
            yield len(files), _one(file)
        except (DualViTError, OSError) as error:
            yield len(files), error


def _nth(number: int) -> str:
    """A number as English counts places, and a space; nothing for 1."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} " if number > 1 else ""


def _one(file: Path) -> One:
    picture, notes = open_rgb(file), tuple[str, ...]()
    with opened_file(file, file) as (image, _):
        several = bool(getattr(image, "is_animated", False)) and image.format not in SINGLE
    if several:
        notes = ("it has several frames, and the first one is explained",)
    return One(file.name, file.stem, sha256(file), picture, notes)


def _is_sheet(file: Path, out: Path) -> bool:
    """Whether a picture is the sheet of an earlier explanation."""
    if file.suffix != ".png" or file.resolve().parent != out.resolve():
        return False
    stems = {file.stem, file.stem.removesuffix(READS)}
    return any(
        (out / f"{stem}.npz").is_file() and "settings" in (read_json(out / f"{stem}.json") or {}) for stem in stems
    )


def _stem(out: Path, one: One, settings: dict[str, Any]) -> tuple[str, bool]:
    """The name for the files of an explanation: a free one, or that of the same explanation, which is there."""
    room = LONGEST_NAME - len(f"-999999{READS}.png.part")
    endings = (*ENDINGS, f"{READS}.png") if "attention" in settings else ENDINGS
    for number in range(1, 1_000_000):
        stem = cut_name(one.stem, room) + (f"-{number}" if number > 1 else "")
        if not any((out / f"{stem}{ending}").exists() for ending in endings):
            return stem, False
        content = read_json(out / f"{stem}.json") or {}
        if content.get("key") == one.key and content.get("settings") == settings:
            return stem, True
    raise UnreadableError(f"{out} has a million files called {one.stem}; give another folder")


def _announce(subject: Subject, one: One, wanted: Wanted, count: int, say: Callable[[str], None]) -> None:
    """Say what it will take, before the first pass."""
    methods, lacks = wanted.methods_for(subject)
    for line in lacks:
        say(line)
    view = subject.view(one.picture)
    costs = {method.name: method.cost(subject, view) for method in methods}
    objects = 1 if wanted.number is not None or wanted.target is not None else wanted.most
    each = ", ".join(f"{name} {passes}" for name, passes in costs.items())
    pictures, those = ("picture" if count == 1 else "pictures"), ("object" if objects == 1 else "objects")
    most = count * objects * sum(costs.values())
    say(f"passes per map: {each}; {count} {pictures} with {objects} {those} at most: {most} passes at most")


def _report(one: One, explanation: Explanation, subject: Subject, file: Path, say: Callable[[str], None]) -> None:
    """Say what was found in a picture, where the evidence lies, and what is particular to this picture."""
    say(f"{one.name}: {len(explanation.found)} found, {file}" if subject.detects else f"{one.name}: {file}")
    for number in dict.fromkeys(each.number for each in explanation.maps):
        maps = [each for each in explanation.maps if each.number == number]
        words = [each.method for each in maps if each.evidence is None]
        words += [
            f"{each.method} {each.evidence.inside:.0%} in the box, {each.evidence.near:.0%} near, "
            f"{each.evidence.far:.0%} far"
            for each in maps
            if each.evidence is not None
        ]
        say(f"  {number} {maps[0].found.name} {maps[0].found.score:.2f}: {'; '.join(words)}")
    for note in (*one.notes, *explanation.notes[explanation.lacks :]):
        say(f"  {note}")
