"""Pictures in folders by class: which there are, with what labels, and one decoder for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from dualvit.errors import InputError, MissingFileError
from dualvit.files import at_limit, cannot

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
Sample = tuple[Path, int]


def pictures_in(folder: Path) -> list[Path]:
    """Return all pictures below a folder, in order; none of a hidden file, such as `._1.jpg`, which macOS leaves."""
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


class UnreadableError(InputError):
    """A file of the data set cannot be read; the message names it and says why."""


@dataclass(frozen=True)
class ImageFolders:
    """A data set in folders `train/CLASS/` and `val/CLASS/`.

    Attributes:
        classes: Names in order; a picture's label is the index of its folder's name.
        train: Pictures to train on, with labels.
        val: Pictures to validate on, with labels.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]


def read_folders(root: str | Path) -> ImageFolders:
    """List the pictures of a data set.

    Raises:
        FileNotFoundError: no such folder, or no pictures in `train` or `val`.
        ValueError: a class in one of the two alone, or a single class.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"no data set at {root}: name a folder with train/CLASS/ and val/CLASS/, or digits")
    by_class = {split: _by_class(root / split) for split in ("train", "val")}
    for split, classes in by_class.items():
        if not any(classes.values()):
            raise MissingFileError(f"no images in {root / split}: expected {split}/CLASS/picture.jpg")
    names = tuple(sorted(name for name, files in by_class["train"].items() if files))
    val = {name for name, files in by_class["val"].items() if files}
    for odd, here, there in ((val.difference(names), "val", "train"), (set(names) - val, "train", "val")):
        if odd:
            raise InputError(f"{root}: class {min(odd)!r} is in {here} but not in {there}; give both the same folders")
    if len(names) < 2:
        raise InputError(f"{root}: only one class, {names[0]!r}; a classifier needs two or more")
    samples = {
        split: tuple((file, label) for label, name in enumerate(names) for file in classes.get(name, []))
        for split, classes in by_class.items()
    }
    return ImageFolders(names, samples["train"], samples["val"])


def read_split(root: str | Path, classes: Sequence[str] | None = None) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List the validation pictures of a data set: of `root/val/CLASS/`, or of `root/CLASS/` where there is no val.

    Args:
        root: The data set.
        classes: The names that count, in order; None takes those of the folders.

    Returns:
        The names, and the pictures with their labels.

    Raises:
        FileNotFoundError: no such folder, or no pictures in it.
        ValueError: a folder of a class that is not among `classes`.
    """
    folder = Path(root) / "val" if (Path(root) / "val").is_dir() else Path(root)
    by_class = {name: files for name, files in _by_class(folder).items() if files}
    if not by_class:
        raise MissingFileError(f"no images in {folder}: expected {folder}/CLASS/picture.jpg")
    names = tuple(sorted(by_class) if classes is None else classes)
    odd = sorted(set(by_class).difference(names))
    if odd:
        raise InputError(f"{folder}: class {odd[0]!r} is none of the model's {len(names)}; rename or remove the folder")
    return names, tuple((file, label) for label, name in enumerate(names) for file in by_class.get(name, []))


def _by_class(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        return {}
    return {
        entry.name: pictures_in(entry)
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    }


def open_rgb(file: Path | IO[bytes], name: str = "") -> Image.Image:
    """Decode a picture.

    Args:
        file: A path, or an open file.
        name: What a message calls it; the path where left out.

    Raises:
        UnreadableError: it is damaged, absent, or no picture.
        OSError: memory or open files have run out.
    """
    try:
        with Image.open(file) as opened:
            return opened.convert("RGB")
    except ImportError:  # once imported, Ultralytics makes Pillow look for a HEIF plug-in then
        reason, remedy = "no format that Pillow knows", "remove it"
    except (OSError, MemoryError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if at_limit(error):  # the next picture would fare no better
            raise cannot("read", name or file, error) from None  # type: ignore[arg-type]
        reason, remedy = str(error), "repair or remove it"
    raise UnreadableError(f"cannot read the picture {name or file}: {reason}; {remedy}")
