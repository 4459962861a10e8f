"""Pictures in folders by class: which there are, and with what labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualvit.data.images import pictures_in
from dualvit.errors import InputError, MissingFileError

Sample = tuple[Path, int]


@dataclass(frozen=True)
class ImageFolders:
    """A data set in folders `train/CLASS/` and `val/CLASS/`.

    Attributes:
        classes: Names in order; a picture's label is the index of its folder's name.
        train: Pictures to train on, with labels.
        val: Pictures to validate on, with labels.
        notes: What was left out, a line each.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def read_folders(root: str | Path) -> ImageFolders:
    """List the pictures of a data set.

    Raises:
        FileNotFoundError: no such folder, or no pictures in `train` or `val`.
        ValueError: a class in one of the two alone, or a single class.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"no data set at {root}: name a folder with train/CLASS/ and val/CLASS/, or digits")
    notes: list[str] = []
    by_class = {split: _by_class(root / split, notes) for split in ("train", "val")}
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
    return ImageFolders(names, samples["train"], samples["val"], tuple(notes))


def read_split(
    root: str | Path, classes: Sequence[str] | None = None, notes: list[str] | None = None
) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List the validation pictures of a data set: of `root/val/CLASS/`, or of `root/CLASS/` where there is no val.

    Args:
        root: The data set.
        classes: The names that count, in order; None takes those of the folders.
        notes: Takes a line for each class with files that are no pictures.

    Returns:
        The names, and the pictures with their labels.

    Raises:
        FileNotFoundError: no such folder, or no pictures in it.
        ValueError: a folder of a class that is not among `classes`.
    """
    folder = Path(root) / "val" if (Path(root) / "val").is_dir() else Path(root)
    by_class = {name: files for name, files in _by_class(folder, notes).items() if files}
    if not by_class:
        raise MissingFileError(f"no images in {folder}: expected {folder}/CLASS/picture.jpg")
    names = tuple(sorted(by_class) if classes is None else classes)
    odd = sorted(set(by_class).difference(names))
    if odd:
        raise InputError(f"{folder}: class {odd[0]!r} is none of the model's {len(names)}; rename or remove the folder")
    return names, tuple((file, label) for label, name in enumerate(names) for file in by_class.get(name, []))


def _by_class(folder: Path, notes: list[str] | None) -> dict[str, list[Path]]:
    if not folder.is_dir():
        return {}
    return {
        entry.name: pictures_in(entry, notes)
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
