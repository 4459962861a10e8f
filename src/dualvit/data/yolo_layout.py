"""The YOLO layout (data.yaml, images/, labels/*.txt with boxes or polygons), brought into COCO's form.

Where pictures and label files are is found by Ultralytics' rules, restated: the recipes do not import it.
tests/yolo/test_layouts.py compares the two.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from dualvit.data.coco import Coco, from_content
from dualvit.data.images import SUFFIXES, UnreadableError, pictures_in, size_of
from dualvit.data.yolo_labels import Labels, Pair, read_objects
from dualvit.errors import InputError, MissingFileError
from dualvit.files import cannot, is_there, parse_yaml

__all__ = [
    "Layout", "Pair", "find_yaml", "images_of", "label_file", "listed_file", "read_layout", "read_objects",
    "read_pairs", "read_yolo",
]  # fmt: skip

MOST_CLASSES = 100_000  # more would be a mistake, and take all memory


@dataclass(frozen=True)
class Layout:
    """What a data.yaml says.

    Attributes:
        file: Where it is.
        classes: Their names, in the order of the indices.
        keypoints: How many numbers follow a box in its labels, as `kpt_shape` says; 0 without it.
        content: All of it.
    """

    file: Path
    classes: tuple[str, ...]
    keypoints: int
    content: dict[str, Any]

    def places(self, split: str, roots: Iterable[Path] = ()) -> list[Path]:
        """Return the folders of images, and the text files that list images, of a split.

        A relative `path` begins at the working directory, at one of `roots`, or at the data.yaml's folder: the first
        that has all places.

        Raises:
            FileNotFoundError: one of them is not there.
            ValueError: no such split, or one that names no places.
        """
        named = self.content.get(split) or (self.content.get("validation") if split == "val" else None)
        if not named:
            raise InputError(f"{self.file} has no {split}; it needs train, val and names")
        names = named if isinstance(named, list) else [named]
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"{self.file} has {split} {named!r}; give a folder, a text file, or a list of these")
        path, beside = Path(str(self.content.get("path") or "")), self.file.parent
        bases = [Path.cwd(), *roots, beside] if self.content.get("path") else [beside]
        tried = [[_place(base / path, name) for name in names] for base in bases]
        found = next((places for places in tried if all(map(is_there, places))), None)
        if found is None:
            absent = next(place for place in tried[-1] if not is_there(place))
            raise MissingFileError(
                f"{self.file}: no images at {absent}; make its folders, or correct `path`, `train` and `val` in it"
            )
        return found

    def pairs(self, split: str, notes: list[str] | None = None) -> tuple[Pair, ...]:
        """Return the images of a split, each with its label file, which need not exist.

        Args:
            split: train, val or test.
            notes: Takes a line for each folder with files that are no pictures.

        Raises:
            FileNotFoundError: no such folder or file, or no images in it.
            ValueError: no such split, or a file that lists no images.
        """
        found = (picture for place in self.places(split) for picture in images_of(place, notes))
        return tuple((picture, label_file(picture)) for picture in found)

    def labels(self, split: str) -> Labels:
        """Return a reader of the split's label files."""
        return Labels(self.file, split, len(self.classes), self.keypoints)


def find_yaml(place: str | Path) -> Path | None:
    """Return the data.yaml that a path names: the file itself, or the one in a folder; None if there is none.

    In a folder it is data.yaml, or else the only YAML, or the one that is called after the folder.
    """
    place = Path(place)
    if place.suffix.lower() in (".yaml", ".yml") and not place.is_dir():
        return place
    if (place / "data.yaml").is_file():
        return place / "data.yaml"
    for ending in ("*.yaml", "*.yml"):
        files = list(place.glob(ending))
        files = files if len(files) == 1 else [file for file in files if file.stem == place.name]
        with suppress(InputError):  # of a YAML that is for something else
            if files and {"train", "val", "validation"} & set(_content(files[0])):
                return files[0]
    return None


def read_layout(file: str | Path) -> Layout:
    """Read a data.yaml.

    Args:
        file: `train` and `val` name folders of images, text files that list images, or lists of these, from `path` on,
            or from the file's folder; `names` are the classes, or `nc` their number. A path with the last `images`
            replaced by `labels` leads to an image's text file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no YAML, or its names are not those of the classes 0, 1, 2, ...
    """
    file = Path(file)
    if not file.is_file():
        raise MissingFileError(f"no data set at {file}; name a data.yaml, or a folder that has one")
    content = _content(file)
    shape: Any = content.get("kpt_shape") or [0, 0]
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(number, int) for number in shape):
        raise InputError(f"{file} has kpt_shape {shape!r}; give keypoints and values of each, such as [17, 3]")
    return Layout(file, _classes(file, content), shape[0] * shape[1], content)


def read_pairs(file: str | Path, split: str) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Read a data.yaml: the names of its classes, and the images of a split, each with its label file.

    Raises:
        FileNotFoundError: no such file or folder, or no images in it.
        ValueError: no split or no names, or `names` that are not those of the classes 0, 1, 2, ...
    """
    layout = read_layout(file)
    return layout.classes, layout.pairs(split)


def _content(file: Path) -> dict[str, Any]:
    """The keys of a YAML; bytes and signs that YAML does not have are left out, as Ultralytics does."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="ignore")
    except (OSError, MemoryError) as error:
        raise cannot("read", file, error) from None
    content = parse_yaml(yaml.reader.Reader.NON_PRINTABLE.sub("", text), file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no settings; it needs train, val and names")
    return content


def _classes(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), None
    if "nc" in content:
        try:
            count = int(content["nc"])
            if count != float(content["nc"]):  # Ultralytics takes '10' and 10.0
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{file} has nc {content['nc']!r}; give the number of classes, or leave nc out") from None
    if count is not None and count > MOST_CLASSES:
        raise InputError(f"{file} has nc {count:.3g}; {MOST_CLASSES} classes are the most")
    if names is None and count is not None and count > 0:
        names = [f"class_{index}" for index in range(count)]  # Ultralytics' names
    if not names:
        raise InputError(f"{file} has no names; it needs train, val and names, such as names: [cell]")
    if isinstance(names, dict):
        try:
            named = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError, OverflowError):
            named = {}
        if sorted(named) != list(range(len(names))):
            raise InputError(f"{file} has names for {', '.join(map(str, names))}; number them 0 to {len(names) - 1}")
        names = [named[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{file} has names {names!r}; give a list of classes, such as names: [cell]")
    if count is not None and count != len(names):
        raise InputError(f"{file} has nc {count} and {len(names)} names; make them equal, or leave nc out")
    return tuple(map(str, names))


def _place(root: Path, name: str) -> Path:
    """Where a split's folder or list is.

    Links are followed, as Ultralytics does, unless only the path with the link in it leads to a folder of labels.
    """
    plain = root / name
    if name.startswith("../") and not is_there(plain):
        plain = root / name.removeprefix("../")  # Roboflow writes it of a folder beside the YAML
    target, spelt = plain.resolve(), Path(os.path.normpath(plain.absolute()))
    if target == spelt or not is_there(target):
        return spelt if ".." in plain.parts else plain
    return spelt if spelt.is_dir() and _has_labels(spelt) and not _has_labels(target) else target


def _has_labels(folder: Path) -> bool:
    labels = label_file(folder / "picture.jpg").parent
    return labels.is_dir() and (labels != folder or any(folder.glob("*.txt")))


def images_of(place: Path, notes: list[str] | None = None) -> list[Path]:
    """Return the images of a folder, or those that a text file lists, from the working directory or the file on.

    Args:
        place: A folder, or a text file.
        notes: Takes a line if the folder has files that are no pictures.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the file is no text.
    """
    if place.is_dir():
        listed = pictures_in(place, notes)
    else:
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{place} is no text file that lists images; give a folder, or such a file") from None
        except (OSError, MemoryError) as error:
            raise cannot("read", place, error) from None
        listed = [listed_file(place, line.strip()) for line in lines if line.strip()]
    if not listed:
        raise MissingFileError(f"no images in {place}; expected one of {', '.join(sorted(SUFFIXES))}")
    return listed


def listed_file(place: Path, line: str) -> Path:
    """Return the image that a line of a text file names."""
    if not line.startswith("./") and is_there(Path(line)):
        return Path(line).absolute()
    return place.parent / line


def label_file(picture: Path) -> Path:
    """Return where the objects of an image are: in `labels` instead of the last `images`."""
    parts = list(picture.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_yolo(file: str | Path, split: str) -> Coco:
    """Read one split of a data set in the YOLO layout.

    Args:
        file: Its data.yaml, as for `read_layout`. Without a text file, an image has no objects. An image whose text
            file is malformed is left out; `Coco.notes` says so.
        split: train or val.

    Raises:
        FileNotFoundError: no such file or folder, or no images in it.
        ValueError: `read_layout` has one, or no text file that has objects can be read; the message names the first.
    """
    layout = read_layout(file)
    labels = layout.labels(split)
    notes: list[str] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (picture, text_file) in enumerate(layout.pairs(split, notes), 1):
        objects = labels.read(picture, text_file)
        if objects is None:
            continue
        image = {"id": number, "file_name": str(picture), "width": 1, "height": 1}
        try:
            width, height = size_of(picture)
        except UnreadableError:  # listed all the same: whoever loads it will note that it cannot be read
            images.append(image)
            continue
        images.append(image | {"width": width, "height": height})
        annotations += [
            {"image_id": number, "category_id": label} | _shape(np.array(numbers), width, height)
            for _, label, numbers in objects
        ]
    if labels.unreadable:
        labels.require_some()
    categories = [{"id": key, "name": name} for key, name in enumerate(layout.classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    found = from_content(content, Path(), f"{layout.file.parent.name} {split}")
    unreadable = (*labels.unreadable, *found.unreadable)
    return replace(found, notes=(*notes, *labels.notes(), *found.notes), unreadable=unreadable)


def _shape(numbers: Any, width: int, height: int) -> dict[str, Any]:
    if len(numbers) == 4:
        (x, y), (w, h) = numbers[:2] * (width, height), numbers[2:] * (width, height)
        return {"bbox": [float(x - w / 2), float(y - h / 2), float(w), float(h)]}
    points = numbers.reshape(-1, 2) * (width, height)
    corner, far = points.min(0), points.max(0)
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    box = [*map(float, corner), *map(float, far - corner)]
    return {"bbox": box, "segmentation": [points.reshape(-1).tolist()], "area": area}
