"""Which labelled layout a place holds, and its splits in the one form that training reads."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from dualvit.data import labelme, voc
from dualvit.data.coco import Coco, read_coco
from dualvit.data.images import SUFFIXES, pictures_in
from dualvit.data.notes import Notes
from dualvit.data.yolo_layout import read_yolo
from dualvit.errors import InputError, MissingFileError
from dualvit.files import read_yaml

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "testing": "test"}  # fmt: skip
HEAD = 1 << 16  # bytes of a json that tell whose it is
FIRST = 20  # pictures that tell which folder a json speaks of
LARGEST = 64 << 20  # bytes of an annotation of one picture; none is near it
FORMS = {"yolo": "a data.yaml", "coco": "a json with images, annotations and categories",
         "voc": "xml files", "labelme": "json files with shapes"}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A picture and its objects.

    Attributes:
        file: Where it is.
        size: Width and height that the labels are of; None if they do not say.
        objects: Each with its class's `name`, and `bbox`, `segmentation`, `area`, `iscrowd` as in COCO's json, and
            `difficult` as in VOC's xml; only `name` and `bbox` are always there.
    """

    file: Path
    size: tuple[int, int] | None
    objects: list[dict[str, Any]]


Splits = dict[str, list[Labelled]]


@dataclass(frozen=True)
class Place:
    """Labelled data, and what cannot be seen in them.

    Attributes:
        path: A folder, a data.yaml, or a json of COCO's.
        form: A key of FORMS; found out if it is None.
        images: What the file names of COCO's json begin at; looked for if it is None.
        from_zero: Whether VOC's coordinates are edges from 0.
        notes: Takes what is left out.
    """

    path: Path
    form: str | None = None
    images: Path | None = None
    from_zero: bool = False
    notes: Notes = field(default_factory=Notes)


def form_of(path: Path) -> str:
    """Return the form of what lies at a path: a key of FORMS.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it has no form that is known, or several.
    """
    if not path.exists():
        raise MissingFileError(f"no data set at {path}; name a folder, a data.yaml, or a json of COCO's")
    found = set()
    if _yaml_of(path) is not None:
        found.add("yolo")
    if next(_files(path, ".xml"), None) is not None:
        found.add("voc")
    found |= {kind for file in _files(path, ".json") for kind in [_whose(file)] if kind}
    if len(found) > 1:
        choices = " or ".join(f"--from {form}" for form in FORMS if form in found)
        raise InputError(f"{path} holds {' and '.join(FORMS[form] for form in FORMS if form in found)}; give {choices}")
    if not found:
        raise InputError(f"{path} holds no labels that are known; it needs {', or '.join(FORMS.values())}")
    return found.pop()


def read_place(place: Place) -> tuple[tuple[str, ...], Splits]:
    """Read all splits of labelled data.

    Returns:
        The names of the classes; and train, val and test, as far as they are there.

    Raises:
        FileNotFoundError: nothing is there, or no pictures.
        ValueError: it cannot be read; the message names the first mistake.
    """
    form = place.form or form_of(place.path)
    classes, splits = _per_picture(place, form) if form in ("voc", "labelme") else _whole(place, form)
    if not splits:
        raise InputError(f"no labelled picture in {place.path}" + "".join(f"; {line}" for line in place.notes.lines()))
    return classes, {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _whole(place: Place, form: str) -> tuple[tuple[str, ...], Splits]:
    """The splits of a layout that the package trains on, by its reader."""
    read = _yolo(place) if form == "yolo" else _coco(place)
    splits: Splits = {}
    for split, coco in read.items():
        place.notes.quote(coco.notes)
        for line in coco.unreadable:
            place.notes.add("what cannot be used is left out", line)
        for name in {name for name in coco.classes if coco.classes.count(name) > 1}:
            place.notes.add("classes of the same name become one", name)
        names = {category["id"]: str(category["name"]) for category in coco.truth["categories"]}
        objects: dict[Any, list[dict[str, Any]]] = {picture.id: [] for picture in coco.pictures}
        for one in coco.truth["annotations"]:
            objects[one["image_id"]].append(one | {"name": names[one["category_id"]]})
        splits[split] = [Labelled(one.file, (one.width, one.height), objects[one.id]) for one in coco.pictures]
    return tuple(dict.fromkeys(name for coco in read.values() for name in coco.classes)), splits


def _files(path: Path, suffix: str) -> Iterator[Path]:
    """The files at or below a path that end so, without hidden ones; links to folders are followed, each once."""
    if path.is_file():
        yield from [path] if path.suffix.lower() == suffix else []
    seen = set()
    for root, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(folder for folder in folders if not folder.startswith("."))
        files = [] if real in seen else [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        seen.add(real)
        yield from (file for file in files if file.suffix.lower() == suffix and file.is_file())


def _yaml_of(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    found = [path / "data.yaml", *sorted(path.glob("*.y*ml"))]
    return next((file for file in found if file.is_file() and _splits_of(file)), None)


def _splits_of(file: Path) -> list[str]:
    try:
        content = read_yaml(file)
    except ValueError:
        return ["train"] if file.name == "data.yaml" else []  # whose reader says what is wrong
    return [split for split in ("train", "val", "test") if content.get(split)]


def _whose(file: Path) -> str | None:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    if re.search(rb'"shapes"\s*:', head):
        return "labelme"
    return "coco" if re.search(rb'"(images|annotations|categories)"\s*:', head) else None


def _split_of(names: Iterable[str]) -> str | None:
    """The split that one of some names says, whole or as a word of it, such as instances_val2017."""
    words = [word for name in names for word in re.findall("[a-z]+", name.lower())]
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _yolo(place: Place) -> dict[str, Coco]:
    file = _yaml_of(place.path)
    if file is None:
        raise MissingFileError(f"no data.yaml in {place.path}; name the file")
    names, splits = _splits_of(file) or ["train"], {}
    for split in names:
        try:
            splits[split] = read_yolo(file, split)
        except MissingFileError as error:  # exports often name a test split that they do not hold
            if split == "train":
                raise
            place.notes.add(f"{split} is left out", error)
    return splits


def _coco(place: Place) -> dict[str, Coco]:
    files = [file for file in _files(place.path, ".json") if _whose(file) == "coco"]
    files = [file for file in files if file.name.startswith("instances_")] or files  # beside captions and keypoints
    by_split: dict[str, Path] = {}
    for file in files:
        folders = file.relative_to(place.path).parts[-2::-1]
        split = _split_of([file.stem, *folders]) or ("train" if len(files) == 1 else None)
        if split is None or split in by_split:
            reason = f"of the split {split}, as {by_split[split]} is" if split else "of no split that its name says"
            raise InputError(f"{file} is {reason}; name one json alone")
        by_split[split] = file
    read = {}
    for split, file in by_split.items():
        content = _content(file)
        for one in content["annotations"]:
            if one.get("keypoints"):
                place.notes.add("keypoints are left out", f"annotation {one.get('id')} of {file.name}")
        names = [str(image.get("file_name")) for image in content["images"][:FIRST]]
        try:
            read[split] = read_coco(file, place.images or _images_of(file, names, split, place))
        except MissingFileError:
            where, first = place.images or "its folder, or in images beside it", " ".join(names[:1])
            raise MissingFileError(
                f"no picture that {file} names lies in {where}; the first is {first}; give another --images"
            ) from None
    return read


def _images_of(file: Path, names: list[str], split: str, place: Place) -> Path:
    """The folder that holds the most of the first pictures that a json names."""
    roots = [file.parent, file.parent.parent] if place.path.is_file() else [file.parent, place.path]
    subs = [file.stem.removeprefix("instances_"), *(word for word in SPLITS if SPLITS[word] == split)]
    subs = ["", "images", *subs, *(f"images/{sub}" for sub in subs)]
    folders = [root / sub for root in roots for sub in subs]
    lasts = [PurePath(name.replace("\\", "/")).name for name in names]  # of paths of another machine
    hits = [sum((folder / name).is_file() for name in (*names, *names, *lasts)) for folder in folders]
    if names and not max(hits):
        raise MissingFileError(file)
    return folders[hits.index(max(hits))]


def _content(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a json of COCO's; none if it is of another kind, which its reader will say."""
    try:
        content = json.loads(file.read_bytes())
        return {part: [row for row in content[part] if isinstance(row, dict)] for part in ("images", "annotations")}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {"images": [], "annotations": []}


def _per_picture(place: Place, form: str) -> tuple[tuple[str, ...], Splits]:
    """The splits of a folder with an annotation per picture, which belongs to a split by a list, or by its folder."""
    root = place.path
    if not root.is_dir():
        raise InputError(f"{root} is the annotation of one picture; name its folder")
    is_voc = form == "voc"
    files = list(_files(root, ".xml")) if is_voc else [f for f in _files(root, ".json") if _whose(f) == form]
    listed = voc.split_lists(sorted({file.parent for file in files})) if is_voc else {}
    for file in sorted(set(listed) - set(files)):
        place.notes.add("names in ImageSets/Main without an xml are left out", file.stem)
    others: list[str] = []
    pictures = pictures_in(root, others)
    place.notes.quote(others)
    suffixes = sorted({picture.suffix for picture in pictures})
    read: Splits = {}
    for file in files:
        split = listed.get(file) if listed else _split_of(file.relative_to(root).parts[:-1]) or "train"
        if split is None:
            place.notes.add("xml files that no list in ImageSets/Main names are left out", file.name)
        elif one := _annotation(file, is_voc, suffixes, place):
            read.setdefault(split, []).append(one)
    used = {str(one.file) for labelled in read.values() for one in labelled}
    for picture in pictures:
        if os.path.normpath(picture) not in used:
            place.notes.add("pictures without an annotation that can be used are left out", picture.name)
    classes = sorted({thing["name"] for labelled in read.values() for one in labelled for thing in one.objects})
    if read and not classes:
        raise InputError(f"no object in {root}; label one, so that there is a class")
    return tuple(classes), read


def _annotation(file: Path, is_voc: bool, suffixes: list[str], place: Place) -> Labelled | None:
    """What a file says, with the path of its picture; None, and a note, if it cannot be read or has no picture."""
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"it has over {LARGEST} bytes")
        if is_voc:
            image, objects = voc.read_annotation(file.read_bytes(), place.from_zero)
            left_out = ["polygons in VOC's xml are left out"] * sum(one.pop("polygon") for one in objects)
        else:
            image, objects, left_out = labelme.read_annotation(file.read_bytes())
    except (InputError, OSError) as error:
        place.notes.add("annotations that cannot be read are left out", f"{file}: {error}")
        return None
    picture = _picture_of(file, image["file_name"], suffixes)
    if picture is None:
        place.notes.add("annotations without their picture are left out", file.name)
        return None
    for line in left_out:
        place.notes.add(line, file.name)
    size = (image["width"], image["height"])
    return Labelled(picture, size if min(size) > 0 else None, objects)


def _picture_of(file: Path, name: str, suffixes: list[str]) -> Path | None:
    """The picture of an annotation: of its own name, which tools keep, or of the name that it gives, which may be old.

    It lies beside the annotation, or in JPEGImages or images instead of Annotations.
    """
    folders = [file.parent]
    if "Annotations" in file.parts:
        at = len(file.parts) - 1 - file.parts[::-1].index("Annotations")
        folders += [Path(*file.parts[:at], other, *file.parts[at + 1 : -1]) for other in ("JPEGImages", "images")]
    else:
        folders += [file.parent.parent, file.parent.parent / "images"]
    last = PurePath(name.replace("\\", "/"))
    suffixes = [last.suffix, *suffixes] if last.suffix.lower() in SUFFIXES else suffixes
    places = [folder / (file.stem + suffix) for suffix in suffixes for folder in folders]
    if last.suffix.lower() in SUFFIXES:
        places += [file.parent / last, *(folder / last.name for folder in folders)]
    return next((Path(os.path.normpath(place)) for place in places if place.is_file()), None)
