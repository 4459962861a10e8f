"""What the page offers: the models and the pictures that the command line names, and nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualvit.data.images import pictures_in
from dualvit.errors import InputError, MissingFileError
from dualvit.weights.starts import start_file

ENDINGS = (".pt", ".ckpt", ".safetensors")
STARTS = ("yolov8n-dualvit", "yolov8n-dualvit-seg")  # in the package, offered if no model is named
START_SIZE = 320  # pixels, of their input: a map takes a quarter of the time that it does at 640
MOST_PICTURES = 48  # of a folder; each is decoded when the page starts


@dataclass(frozen=True)
class Offer:
    """What can be chosen in the page.

    Attributes:
        models: Files by the names that the page shows.
        named: How many of them, from the first on, the command line names one by one.
        pictures: Files.
        left_out: How many pictures of the folder are not among them.
        image_size: Of the models' input to begin with; as trained if None.
    """

    models: dict[str, Path]
    named: int
    pictures: tuple[Path, ...] = ()
    left_out: int = 0
    image_size: int | None = None


def offer(models: Sequence[Path], data: Path | None = None) -> Offer:
    """Return what the page offers.

    Args:
        models: Checkpoints, and folders below which all checkpoints are offered; the package's starts if there are
            none.
        data: A folder with pictures.

    Raises:
        FileNotFoundError: a checkpoint or a folder is not there, or holds nothing to offer.
        ValueError: a file is no checkpoint.
    """
    named, below = [], []
    for place in models:
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.suffix in ENDINGS and file.is_file())
            if not inside:
                raise MissingFileError(
                    f"there is no checkpoint below {place}; name a folder with {' or '.join(ENDINGS)}"
                )
            below += inside
        elif not place.exists():
            raise MissingFileError(f"no model at {place}; give a checkpoint of YOLO or of a recipe, or a folder")
        elif place.suffix not in ENDINGS:
            raise InputError(f"{place} is no checkpoint; give a file that ends in {' or '.join(ENDINGS)}")
        else:
            named.append(place)
    if not models:
        below = [start_file(name) for name in STARTS]
    files = list(dict.fromkeys(file.absolute() for file in (*named, *below)))
    pictures = _pictures(data) if data else []
    return Offer(
        dict(zip(short_names(files), files, strict=True)),
        len({file.absolute() for file in named}),
        tuple(pictures[:MOST_PICTURES]),
        max(len(pictures) - MOST_PICTURES, 0),
        None if models else START_SIZE,
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder; give one with pictures")
    if not (pictures := pictures_in(folder)):
        raise MissingFileError(f"there is no picture below {folder}; give a folder with pictures")
    return pictures


def short_names(files: Iterable[Path]) -> list[str]:
    """Return a name for each of different files: as many of its last folders as tell all files apart.

    Example:
        >>> short_names([Path("/runs/a/best.pt"), Path("/runs/b/best.pt")])
        ['a/best.pt', 'b/best.pt']
    """
    parts = [file.parts for file in files]
    count = 1
    while len({part[-count:] for part in parts}) < len(parts):
        count += 1
    return ["/".join(part[-count:]).replace("//", "/") for part in parts]
