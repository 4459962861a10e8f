"""Files and folders that are written completely or not at all, JSON, and YAML in which 1e-3 is a number."""

import errno
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml  # type: ignore[import-untyped]

from dualvit.errors import AccessError, InputError, line_of

LONGEST_NAME = 255  # bytes of a file's name, on most systems
LARGEST_YAML = 1_000_000  # values of a YAML with all that its aliases repeat
LIMITS = {  # of the system: no file is to blame
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "free memory",
}


def at_limit(error: BaseException) -> bool:
    """Whether an error comes from too little memory or too many open files, and not from the file itself."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in LIMITS)


def cannot(act: str, path: object, error: OSError | MemoryError) -> OSError:
    """The system's error in one line, with the remedy.

    Args:
        act: What was tried, such as "read".
        path: The file or folder.
        error: What the system said.

    Example:
        >>> print(cannot("read", "last.ckpt", MemoryError()))
        cannot read last.ckpt: Cannot allocate memory; free memory
    """
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno or 0
    reason = os.strerror(number) if number else str(error)
    remedy = "make it readable" if act == "read" else "give another place"
    answer = AccessError(f"cannot {act} {path}: {reason}; {LIMITS.get(number, remedy)}")
    answer.errno = number or None  # not by the constructor, which would put it into the text
    return answer


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place once it is complete: a kill or a full disk leaves the old one or the new."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(place: Path) -> Iterator[Path]:
    """Yield a folder that takes its place once it is complete; a kill or an error leaves nothing there.

    Raises:
        OSError: something else than an empty folder is in its place.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as unfinished:
        folder = Path(unfinished) / place.name  # one folder down: the temporary one itself is closed to other users
        folder.mkdir()
        yield folder
        if place.is_dir():
            place.rmdir()
        folder.rename(place)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill, a power cut or a full disk leaves the old one or the new one, never a part.

    Of a text, names of files that are no UTF-8 are written as `writable` escapes them.
    """
    with atomic(path) as file:
        file.write(writable(content).encode() if isinstance(content, str) else content)


def writable(text: str) -> str:
    r"""Return a text in which bytes of a file's name that are no UTF-8 stand escaped, as JSON escapes them.

    Example:
        >>> writable("caf\udce9.jpg")
        'caf\\udce9.jpg'
    """
    return text.encode(errors="backslashreplace").decode()


def cut_name(stem: str, room: int) -> str:
    """Return the stem of a file's name in so many bytes at most; nothing is left of a character that is cut through.

    Example:
        >>> cut_name("naïve", 3), cut_name("naïve", 6)
        ('na', 'naïve')
    """
    whole = os.fsencode(stem)
    return stem if len(whole) <= room else whole[:room].decode(errors="ignore")


def free_paths(folder: Path, *names: str) -> list[Path]:
    """Return where files of these names go in a folder; all get the same number if one of them is there already.

    Example:
        >>> [str(path) for path in free_paths(Path("absent"), "a.json", "a.png")]
        ['absent/a.json', 'absent/a.png']
    """
    for number in itertools.count(2):
        paths = [folder / name for name in names]
        if not any(path.exists() for path in paths):
            break
        names = tuple(f"{re.sub('-[0-9]+$', '', path.stem)}-{number}{path.suffix}" for path in paths)
    return paths


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        ValueError: it is no UTF-8 text.
        OSError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # with the mark of Windows' editors, or without it
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); write it anew") from None
    except (OSError, MemoryError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise cannot("read", path, error) from None


def is_there(path: Path) -> bool:
    """Whether something is at a path that a file names; it is not if the system takes no such name.

    Example:
        >>> is_there(Path(".")), is_there(Path("a" * 5000))
        (True, False)
    """
    try:
        return path.exists()
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP):
            raise cannot("read", path, error) from None
        return False


def is_file_there(path: Path) -> bool:
    """Whether a file is at a path that another file names; it is not if the system takes no such name."""
    return is_there(path) and path.is_file()


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole; NaN becomes null."""
    write_atomic(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or only a damaged one.

    Raises:
        OSError: there is a file, and it cannot be read.
    """
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    except (OSError, MemoryError) as error:
        raise cannot("read", path, error) from None
    return content if isinstance(content, dict) else None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which 1e-3 is a number, as in YAML 1.2; in 1.1 it is a text.

    Aliases may repeat a value, and may not make more of a small file than memory holds, nor hold themselves.
    """

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _values(node, {}) > LARGEST_YAML:
            raise yaml.YAMLError(f"its aliases make over {LARGEST_YAML} values of it")
        return node


def _values(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for; `known` has the nodes that were counted, and those that are not yet whole."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("a value holds itself")
        return known[id(node)]
    known[id(node)] = 0
    inner = node.value if isinstance(node.value, list) else []
    parts = (part for one in inner for part in (one if isinstance(one, tuple) else (one,)))
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is none; the message begins with `where`.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise InputError(f"{where} is not valid YAML: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # of dates and numbers that there are not
        raise InputError(f"{where} is not valid YAML: {line_of(error, 400)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        ValueError: it is not YAML, or holds no settings.
    """
    content = parse_yaml(read_text(path), path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; it needs lines such as `task: classify`")
    return content
