"""Image files from what a command line names, and which of them can be read."""

from collections.abc import Iterable
from pathlib import Path

from dualvit.data.images import SUFFIXES, UnreadableError, open_rgb


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given, and all images in folders, in order and each once.

    Raises:
        FileNotFoundError: a path does not exist, or there are no images at all.
    """
    paths, found = list(paths), []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no image or folder at {path}")
        inside = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
        found += inside
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, paths))}; they end in {', '.join(sorted(SUFFIXES))}")
    return list(dict.fromkeys(found))


def why_unreadable(file: Path) -> str | None:
    """One line that says why an image cannot be decoded; None where it can."""
    try:
        open_rgb(file)
    except UnreadableError as error:
        return " ".join(str(error).split())
    return None
