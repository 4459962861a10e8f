"""Image files from what a command line names, which of them can be read, and names for what is written of each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from dualvit.data.images import SUFFIXES, UnreadableError, open_rgb, pictures_in
from dualvit.errors import MissingFileError
from dualvit.files import LONGEST_NAME, cut_name, read_json, write_json

PREDICTIONS = "predictions"  # .json: what `recipe predict` answered, and which pictures it wrote


def image_files(paths: Iterable[Path], out: Path | None = None, notes: list[str] | None = None) -> list[Path]:
    """Files as they are named, and all images in folders, in order and each once.

    Args:
        paths: Files and folders.
        out: Where predictions go: what they wrote there before is left out of folders.
        notes: Takes a line for each folder that has files that are no pictures.

    Raises:
        FileNotFoundError: a path does not exist, or there are no images at all.
    """
    paths, files = list(paths), []
    written = _written(out) if out is not None else set()
    for path in paths:
        if not path.exists():
            raise MissingFileError(f"no image or folder at {path}")
        inside = pictures_in(path, notes) if path.is_dir() else [path]
        files += [file for file in inside if file == path or file.resolve() not in written]
    if not files:
        raise MissingFileError(f"no images in {', '.join(map(str, paths))}; they end in {', '.join(sorted(SUFFIXES))}")
    return list(dict.fromkeys(files))


def _written(out: Path) -> set[Path]:
    """The pictures that predictions in a folder say they wrote."""
    written = set()
    for file in out.glob(f"{PREDICTIONS}*.json"):
        content = read_json(file) or {}
        rows = content.get("predictions") or content.get("images") or []
        for row in rows if isinstance(rows, list) else []:
            names = [row.get(key) for key in ("picture", "mask")] if isinstance(row, dict) else []
            written |= {(out / name).resolve() for name in names if isinstance(name, str) and "\0" not in name}
    return written


def why_unreadable(file: Path) -> str | None:
    """One line that says why an image cannot be decoded; None where it can."""
    try:
        open_rgb(file)
    except UnreadableError as error:
        return " ".join(str(error).split())
    return None


def free_names(files: Sequence[Path], out: Path, endings: Sequence[str]) -> tuple[Path, list[str]]:
    """Name what is written of each file: after its stem, with a number if that name is taken.

    No file that lies in the folder is overwritten, whoever wrote it, nor do two files get one name. Upper and lower
    case count as the same, as on some file systems. A stem is cut if what is written would have too long a name.

    Args:
        files: In order.
        out: The folder.
        endings: Of the files that are written of each, such as .png.

    Returns:
        Where predictions.json goes, and the names.

    Example:
        >>> free_names([Path("x/a.jpg"), Path("y/A.png"), Path("b.jpg")], Path("absent"), [".png"])
        (PosixPath('absent/predictions.json'), ['a', 'A-2', 'b'])
    """
    taken = {path.name.casefold() for path in out.iterdir()} if out.is_dir() else set()
    numbers: dict[str, Iterable[int]] = defaultdict(partial(count, 1))

    def name(stem: str, endings: Sequence[str]) -> str:
        for number in numbers[stem.casefold()]:
            free = stem if number == 1 else f"{stem}-{number}"
            written = {f"{free}{ending}".casefold() for ending in endings}
            if not written & taken:
                break
        taken.update(written)
        return free

    about = out / f"{name(PREDICTIONS, ['.json'])}.json"
    numbers.clear()
    room = LONGEST_NAME - max(len(ending) for ending in endings) - len("-999999.part")
    return about, [name(cut_name(file.stem, room), endings) for file in files]


def write_predictions(about: Path, content: dict[str, Any]) -> Iterator[str]:
    """Write predictions.json under the name that `free_names` gave; yields a line if that is another one."""
    write_json(about, content)
    if about.stem != PREDICTIONS:
        yield f"predictions in {about}, since {PREDICTIONS}.json is an earlier one"
