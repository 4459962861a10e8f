"""The pictures of a place for who needs no labels: of a folder, by class or not, and of YOLO's and COCO's layouts."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dualvit.data.images import SUFFIXES, pictures_in
from dualvit.data.yolo_layout import find_yaml, read_pairs
from dualvit.errors import MissingFileError

TRAINING = ("images/train", "images/training", "train2017", "train")  # where data sets keep what is trained on


def training_pictures(place: str | Path, notes: list[str] | None = None) -> tuple[Path, ...]:
    """Return the pictures that a data set trains on; of a plain folder all.

    Args:
        place: A folder, or a data.yaml.
        notes: Takes a line if a folder has files that are no pictures.

    Raises:
        FileNotFoundError: nothing is there, or no picture.
    """
    place = Path(place)
    if described := find_yaml(place):
        return tuple(dict.fromkeys(picture for picture, _ in read_pairs(described, "train")[1]))
    if not place.is_dir():
        raise MissingFileError(f"no pictures at {place}; give a folder of pictures, or a data.yaml")
    folder = next((place / name for name in TRAINING if (place / name).is_dir()), place)
    files = pictures_in(folder, notes)
    if not files:
        raise MissingFileError(f"no pictures in {folder}; they end in {', '.join(sorted(SUFFIXES))}")
    return tuple(files)


def digest(files: Iterable[Path]) -> str:
    """Return one SHA-256 of the contents of files in their order, whatever they are called and wherever they lie."""
    sums = []
    for file in files:
        with file.open("rb") as opened:
            sums.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()
