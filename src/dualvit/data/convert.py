"""`dualvit data convert`: labelled pictures from one layout into another, by the readers that training uses.

Libraries for this were tried first. They put polygons through masks, round coordinates to 0.01 pixels, or flatten
folders, so that boxes and polygons do not come back as they were.
"""

import random
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dualvit.data.coco import SMALLEST, Segmentation, decode, encode
from dualvit.data.images import SIDEWAYS, SUFFIXES, TURNS, UnreadableError, orientation_of, size_of
from dualvit.data.layouts import FORMS, Labelled, Place, Splits, form_of, read_place
from dualvit.data.listing import free_names
from dualvit.data.notes import Notes
from dualvit.data.outlines import NEAR, is_near
from dualvit.data.polygons import Points, rings, upright
from dualvit.data.writers import WRITERS, Example, Examples, Thing
from dualvit.errors import InputError, MissingFileError
from dualvit.files import atomic_folder, cannot

Progress = Callable[[int, int], None]
Size = tuple[int, int]  # width and height
ABSENT = {
    "train": "there are no pictures to train on, which most commands need",
    "val": "there are no pictures to validate on; --val 0.2 sets a fifth of the training pictures apart",
}


@dataclass(frozen=True)
class Conversion:
    """What to convert, and how.

    Attributes:
        place: Where the labelled pictures are.
        out: The folder of the result; a new or an empty one.
        to: yolo, coco or voc.
        link: Link to the pictures instead of copying them.
        val: Share of the training pictures that is set apart to validate on; 0 for none.
    """

    place: Place
    out: Path
    to: str
    link: bool = False
    val: float = 0.0


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        pictures: The number of them per split.
        objects: The number of those that were written.
        classes: Names, in order.
        notes: What was left out or changed, a line each.
        next: The command to type next.
    """

    pictures: dict[str, int]
    objects: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    next: str


def convert(conversion: Conversion, progress: Progress = lambda done, total: None) -> Converted:
    """Write labelled pictures in another layout. The folder appears once it is complete.

    Args:
        conversion: What to convert, and how.
        progress: Called with the pictures that are written, and all pictures.

    Raises:
        FileNotFoundError: the labels or all pictures are not there.
        ValueError: the settings do not fit, or the labels cannot be read.
        OSError: the folder cannot be written.
    """
    place = replace(conversion.place, form=conversion.place.form or form_of(conversion.place.path))
    _check(replace(conversion, place=place))
    notes, writer = place.notes, WRITERS[conversion.to]
    classes, splits = read_place(place)
    if conversion.val:
        splits = _set_apart(splits, conversion.val)
    examples = {split: _examples(found, classes, place) for split, found in splits.items()}
    examples = _named({split: found for split, found in examples.items() if found}, conversion, notes)
    if not any(one.things for found in examples.values() for one in found):
        kind = "object" if examples else "picture"
        raise InputError(f"no {kind} of {place.path} can be used" + "".join(f"; {line}" for line in notes.lines()))
    try:
        with atomic_folder(conversion.out) as folder:
            _write_pictures(examples, folder, conversion, progress)
            objects = writer.labels(folder, classes, examples, notes)
    except OSError as error:
        raise (cannot("write to", conversion.out, error) if error.errno else error) from None
    outlines = any(thing.outline for found in examples.values() for one in found for thing in one.things)
    absent = [line for split, line in ABSENT.items() if split not in examples]
    command = writer.next[outlines].format(out=shlex.quote(str(conversion.out)))
    counts = {split: len(found) for split, found in examples.items()}
    return Converted(counts, objects, classes, (*notes.lines(), *absent), command)


def _check(conversion: Conversion) -> None:
    place, out = conversion.place, conversion.out
    for option, name, known in (("--to", conversion.to, WRITERS), ("--from", place.form, FORMS)):
        if name not in known:
            raise InputError(f"{option} is {name!r}; there are {', '.join(known)}")
    for path in (place.path, place.images or place.path):
        if not path.exists():
            raise MissingFileError(f"nothing is at {path}; name another place")
    if not 0 <= conversion.val < 1:
        raise InputError(f"--val is {conversion.val}; give a share from 0 to below 1, such as 0.2")
    if place.from_zero and place.form != "voc":
        raise InputError(f"--from-zero is for VOC's xml, and {place.path} holds {place.form}; leave it out")
    if place.images and place.form != "coco":
        raise InputError(f"--images is for COCO's json, and {place.path} holds {place.form}; leave it out")
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(f"{out} is not empty; give a new folder or an empty one")


def _set_apart(splits: Splits, share: float) -> Splits:
    """Splits of which a share of the training pictures, always the same ones, is there to validate on.

    Raises:
        ValueError: there are pictures to validate on, or too few to train on.
    """
    found = splits.get("train", [])
    number = max(1, round(share * len(found)))
    if "val" in splits:
        raise InputError(f"there are {len(splits['val'])} pictures to validate on already; leave --val out")
    if number >= len(found):
        raise InputError(f"--val {share} of {len(found)} pictures leaves none to train on; label more, or leave it out")
    chosen = set(random.Random(0).sample(range(len(found)), number))
    train = [one for index, one in enumerate(found) if index not in chosen]
    return {"train": train, "val": [found[index] for index in sorted(chosen)]} | {
        split: listed for split, listed in splits.items() if split != "train"
    }


def _examples(found: list[Labelled], classes: tuple[str, ...], place: Place) -> list[Example]:
    """The pictures that can be read, with their objects upright."""
    examples = []
    labels = {name: label for label, name in enumerate(classes)}
    for one in found:
        if one.file.suffix.lower() not in SUFFIXES:
            place.notes.add("pictures whose suffix no reader takes are left out", one.file.name)
            continue
        try:
            width, height = size_of(one.file)
        except UnreadableError as error:
            place.notes.add("pictures that cannot be read are left out", error)
            continue
        said = one.size or (width, height)
        if place.form == "coco" and said != (height, width) and not is_near(said, (width, height)):
            place.notes.add("pictures have another size than their annotations say, and are left out", one.file.name)
            continue
        examples.append(Example(one.file, one.file.name, width, height, _things(one, (width, height), labels, place)))
    return examples


def _things(one: Labelled, actual: Size, labels: dict[str, int], place: Place) -> tuple[Thing, ...]:
    """The objects of a picture: inside it, and as it stands upright."""
    size, notes = one.size or actual, place.notes
    turn = orientation_of(one.file) if size != actual and size == actual[::-1] else 1
    if turn in SIDEWAYS:
        notes.add("photographs were labelled sideways, as they are stored, and their labels are turned", one.file.name)
    elif not is_near(size, actual):
        notes.add("pictures have another size than their labels say, which are scaled", one.file.name)
    else:
        size = actual
    scale = np.ones(2) if turn in SIDEWAYS else np.array(actual) / size
    things = []
    for thing in one.objects:
        x, y, width, height = map(float, thing["bbox"])
        box = np.array([[x, y], [x + width, y + height]])
        inside = box.clip(0, size)
        if place.form in ("voc", "labelme"):  # the readers of the others say this themselves
            if not _holds(inside):
                notes.add("boxes outside of their pictures, or empty, are left out", one.file.name)
            elif np.abs(inside - box).max() > NEAR:
                notes.add("boxes that reach beyond their pictures are clipped", one.file.name)
        if not _holds(inside):
            continue
        (x1, y1), (x2, y2) = np.sort(upright(inside, turn, *size), 0) * scale
        outline = _outline(thing.get("segmentation") or None, turn, size, scale)
        area = float(thing["area"] * scale.prod()) if outline and "area" in thing else (x2 - x1) * (y2 - y1)
        box4 = (float(x1), float(y1), float(x2), float(y2))
        marks = bool(thing.get("iscrowd")), bool(thing.get("difficult"))
        things.append(Thing(labels[thing["name"]], box4, outline, float(area), *marks))
    return tuple(things)


def _holds(box: Points) -> bool:
    return bool((box[1] - box[0] > SMALLEST).all())  # which a NaN is not, either


def _outline(outline: Segmentation | None, turn: int, size: Size, scale: Points) -> Segmentation | None:
    """An outline as it is in the upright picture, in its size."""
    if isinstance(outline, dict):
        scaled = (scale != 1).any() or tuple(outline["size"]) != size[::-1]
        if not scaled and turn not in SIDEWAYS:
            return outline
        mask = decode(outline, size[1], size[0])
        if not scaled:
            return encode(np.asarray(Image.fromarray(mask).transpose(TURNS[turn]))[None])[0]
        outline = [ring.reshape(-1).tolist() for ring in rings(mask)]
    points = [np.array(part, float).reshape(-1, 2) for part in outline or ()]
    return [(upright(part, turn, *size) * scale).reshape(-1).tolist() for part in points] or None


def _named(examples: Examples, conversion: Conversion, notes: Notes) -> Examples:
    """Examples whose names differ in each folder of the result, also without their suffixes, and can be listed."""
    by_folder: dict[str, list[Example]] = {}
    for split, found in examples.items():
        by_folder.setdefault(WRITERS[conversion.to].images.format(split=split), []).extend(found)
    named = {}
    for folder, found in by_folder.items():
        wanted = ["".join(c if c.isprintable() else "_" for c in one.file.stem).strip(" .") for one in found]
        _, stems = free_names([Path(f"{stem or '_'}.txt") for stem in wanted], conversion.out / folder, [".txt"])
        for one, stem in zip(found, stems, strict=True):
            named[id(one)] = replace(one, name=stem + one.file.suffix)
            if stem != one.file.stem:
                notes.add("pictures are renamed, since a name is taken or cannot be listed", f"{one.file} is {stem}")
    return {split: [named[id(one)] for one in found] for split, found in examples.items()}


def _write_pictures(examples: Examples, folder: Path, conversion: Conversion, progress: Progress) -> None:
    listed = [(split, one) for split, found in examples.items() for one in found]
    for split in examples:
        (folder / WRITERS[conversion.to].images.format(split=split)).mkdir(parents=True, exist_ok=True)
    for done, (split, one) in enumerate(listed, 1):
        place = folder / WRITERS[conversion.to].images.format(split=split) / one.name
        if conversion.link:
            place.symlink_to(one.file.resolve())
        else:
            shutil.copyfile(one.file, place)
        progress(done, len(listed))
