"""Public data sets: where each lies, how its archive is made, and how that becomes a layout that dualvit reads.

The archives' structure is as the repositories and BBBC038's pages describe it; the hosts themselves were not tried.
Pictures and labels are split by `val.json`: it names the validation pictures, and all others are for training.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image

from dualvit.data.images import open_rgb
from dualvit.data.voc import read_annotation
from dualvit.errors import InputError, MissingExtraError, line_of

LONGEST = 640  # pixels of the longer side of a photograph of raccoons
EVERY = 5  # of the hand signs of a class, each fifth validates
LARGEST = 64 << 20  # bytes of a file in an archive; none is near it
Example = tuple[str, str, bytes, list[str]]  # name of the picture, its split, its content, and rows of labels


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        url: Of its zip archive.
        licence: Its name.
        pictures: How many there must be.
        classes: Names, for `data.yaml`; none for folders of classes.
        examples: Yields the examples of an archive.
    """

    url: str
    licence: str
    pictures: int
    classes: tuple[str, ...]
    examples: Callable[["Archive", "Source"], Iterator[Example]]


class Archive:
    """The files of a zip archive by their paths in it, without the one folder that holds them all, if there is one.

    Raises:
        ValueError: a path leads out of the archive, or a file is too large to be a picture.
    """

    def __init__(self, zipped: ZipFile) -> None:
        self.zipped = zipped
        infos = [info for info in zipped.infolist() if not info.is_dir()]
        for info in infos:
            path = PurePosixPath(info.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise InputError(f"it holds {info.filename!r}, a path out of the archive; use another source")
            if info.file_size > LARGEST:
                raise InputError(f"it holds {info.filename!r} of {info.file_size} bytes, over {LARGEST}; use another")
        parts = [PurePosixPath(info.filename).parts for info in infos]
        skipped = 1 if len({path[0] for path in parts if path}) == 1 else 0
        self.infos = {"/".join(path[skipped:]): info for path, info in zip(parts, infos, strict=True)}

    def files(self, folder: str, suffix: str) -> list[str]:
        """Return the files below a folder that end so, in order."""
        return sorted(name for name in self.infos if name.startswith(folder) and name.lower().endswith(suffix))

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            ValueError: there is none.
        """
        if name not in self.infos:
            raise InputError(f"it holds no {name}; the source may have changed")
        try:
            return self.zipped.read(self.infos[name])
        except OSError as error:  # of a place before the beginning, which a damaged table names
            raise BadZipFile(f"{name}: {line_of(error)}") from None


def validation(name: str) -> set[str]:
    """Return the names of a data set's validation pictures, as numbers or identifiers."""
    return {str(key) for key in json.loads((Path(__file__).parent / "val.json").read_text())[name]}


def boxes(content: bytes, classes: tuple[str, ...], name: str) -> list[str]:
    """Return the boxes of a VOC annotation as YOLO's rows: class, centre and size as shares of the picture's sides.

    Raises:
        ValueError: it is no such annotation, or has another class.
    """
    try:
        image, objects = read_annotation(content, from_zero=True)
        sides = (image["width"], image["height"]) * 2
        if not all(sides):
            raise InputError("it has no size")
        rows = []
        for one in objects:
            x, y, width, height = one["bbox"]
            shares = (x + width / 2, y + height / 2, width, height)
            numbers = " ".join(f"{value / side:.6f}" for value, side in zip(shares, sides, strict=True))
            rows.append(f"{classes.index(one['name'])} {numbers}")
    except ValueError as error:
        raise InputError(f"its {name} is no annotation of {', '.join(classes)}: {error}") from None
    return rows


def outline(mask: np.ndarray[Any, Any]) -> list[tuple[float, float]]:
    """Return the polygon through the centres of the outermost pixels of a mask's largest part.

    Args:
        mask: (H, W), true where the object is.

    Returns:
        Corners x, y as shares of width and height.

    Raises:
        ModuleNotFoundError: contourpy is not installed; it comes with matplotlib.

    Example:
        >>> square = np.zeros((4, 4), bool)
        >>> square[1:3, 1:3] = True
        >>> sorted(outline(square))
        [(0.375, 0.375), (0.375, 0.625), (0.625, 0.375), (0.625, 0.625)]
    """
    try:
        from contourpy import contour_generator
    except ModuleNotFoundError:
        raise MissingExtraError("outlines need contourpy, which comes with dualvit[recipes]; install it") from None
    contours = contour_generator(z=np.pad(mask.astype(float), 1))
    for level in (1 - 1e-6, 0.5):  # through the centres; a line of single pixels has an area by its edges alone
        lines = [np.round(np.asarray(line, float)[:-1], 3) for line in contours.lines(level)]
        points = max(lines, key=_area)
        if _area(points):
            break
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    turns |= (before * after).sum(1) < 0  # the tip of a spike one pixel wide, where the line goes back
    shares = (points[turns] - 0.5) / mask.shape[::-1]  # of the padding's one pixel, the centre is at 0.5
    return [(float(x), float(y)) for x, y in shares]


def _area(points: np.ndarray[Any, Any]) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def blood_cells(archive: Archive, source: Source) -> Iterator[Example]:
    """Yield BCCD's pictures as they are, with their VOC boxes."""
    chosen = validation("bccd")
    for name in archive.files("BCCD/JPEGImages/", ".jpg"):
        stem = PurePosixPath(name).stem
        annotation = f"BCCD/Annotations/{stem}.xml"
        split = "val" if str(int(stem.rpartition("_")[2])) in chosen else "train"
        yield f"{stem}.jpg", split, archive.read(name), boxes(archive.read(annotation), source.classes, annotation)


def raccoons(archive: Archive, source: Source) -> Iterator[Example]:
    """Yield photographs of raccoons, brought down to `LONGEST` pixels, with their VOC boxes."""
    chosen = validation("raccoon")
    for name in archive.files("images/", ".jpg"):
        stem, content = PurePosixPath(name).stem, archive.read(name)
        image = open_rgb(BytesIO(content), name)
        if max(image.size) > LONGEST:
            image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            content = _encoded(image, "JPEG", quality=92)
        annotation = f"annotations/{stem}.xml"
        split = "val" if stem.rpartition("-")[2] in chosen else "train"
        yield f"{stem}.jpg", split, content, boxes(archive.read(annotation), source.classes, annotation)


def nuclei(archive: Archive, source: Source) -> Iterator[Example]:
    """Yield the pictures of 256x256 pixels, with the outline of each nucleus from its own mask."""
    chosen = validation("nuclei")
    masks: dict[str, list[str]] = {}
    for name in archive.files("", ".png"):
        key, _, kind = name.rpartition("/")[0].rpartition("/")
        if kind == "masks":
            masks.setdefault(key, []).append(name)
    for name in archive.files("", ".png"):
        key, _, kind = name.rpartition("/")[0].rpartition("/")
        image = open_rgb(BytesIO(archive.read(name)), name) if kind == "images" else None
        if image is None or image.size != (256, 256):
            continue
        rows = []
        for file in masks.get(key, []):
            mask = np.asarray(open_rgb(BytesIO(archive.read(file)), file))[..., 0] > 0
            if mask.any():
                rows.append(f"0 {' '.join(f'{x:.5f} {y:.5f}' for x, y in outline(mask))}")
        stem = PurePosixPath(name).stem[:16]
        yield f"{stem}.png", "val" if stem in chosen else "train", _encoded(image, "PNG"), rows


def hand_signs(archive: Archive, source: Source) -> Iterator[Example]:
    """Yield the pictures of hand signs as they are, below the folders of their classes; each fifth validates."""
    for digit in range(10):
        for index, name in enumerate(archive.files(f"Dataset/{digit}/", ".jpg")):
            split = "val" if index % EVERY == EVERY - 1 else "train"
            yield f"{digit}/{PurePosixPath(name).stem}.jpg", split, archive.read(name), []


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GITHUB = "https://github.com/{}/archive/refs/heads/master.zip"
SOURCES = {
    "bccd": Source(
        GITHUB.format("Shenggan/BCCD_Dataset"), "MIT", 364, ("RBC", "WBC", "Platelets"), blood_cells
    ),
    "nuclei": Source(
        "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip", "CC0", 334, ("nucleus",), nuclei
    ),
    "raccoon": Source(GITHUB.format("datitran/raccoon_dataset"), "MIT", 200, ("raccoon",), raccoons),
    "sign-digits": Source(
        GITHUB.format("ardamavi/Sign-Language-Digits-Dataset"), "Apache-2.0", 2062, (), hand_signs
    ),
}  # fmt: skip
