"""What Ultralytics may open: files that the door of all pictures lets in, such as no named pipe and no huge picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from dualvit.data.images import UnreadableError, require_short, size_of, why_refused


def read_image(stock: Callable[..., Any], filename: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Read a picture to predict on; None, and a warning, if it is not let in."""
    why = why_refused(Path(filename))
    if why is None:
        return stock(filename, *args, **kwargs)
    LOGGER.warning(why)
    return None


def image_files(dataset: Any, stock: Callable[..., Any], place: Any) -> list[str]:
    """List the pictures of a data set, without pipes and the like, which would never end."""
    return without_pipes(stock(dataset, place))


def check_file_speeds(stock: Callable[..., Any], files: list[str], *args: Any, **kwargs: Any) -> Any:
    """Measure how fast a few pictures can be read, pipes apart."""
    return stock(without_pipes(files), *args, **kwargs)


def without_pipes(files: list[str]) -> list[str]:
    """Return those files that are none of a pipe, a socket and a device; one that is absent stays."""
    return [file for file in files if Path(file).is_file() or not Path(file).exists()]


def verify_image_label(stock: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Check a picture and its labels; one that is not let in counts as corrupt."""
    picture, _, prefix, *_ = arguments
    why = why_refused(Path(picture))
    return stock(arguments) if why is None else [None, None, None, None, None, 0, 0, 0, 1, f"{prefix}{why}"]


def verify_image(stock: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Check a picture of a class; one that is not let in, or would be enlarged without bound, counts as corrupt."""
    sample, prefix = arguments
    file = Path(sample[0])
    if file.name.startswith("."):  # such as ._1.jpg, which macOS leaves
        return sample, 0, 1, ""
    why = why_refused(file) or _too_long(file)
    return stock(arguments) if why is None else (sample, 0, 1, f"{prefix}{why}")


def _too_long(file: Path) -> str | None:
    try:
        require_short(file, *size_of(file))
    except UnreadableError as error:
        return str(error)
    return None
