"""What a server is asked to be, what a request may cost, and how one that costs more is refused."""

import re
from dataclasses import dataclass
from pathlib import Path

from dualvit.errors import InputError, MissingFileError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SHORTEST_KEY = 16  # characters


class RefusedError(Exception):
    """A request that gets no prediction.

    Attributes:
        status: Of HTTP.
        message: One line: the value, the limit, the remedy.
        close: Whether the connection ends, since the rest of the request is not read.
    """

    def __init__(self, status: int, message: str, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.close = status, message, close


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        max_bytes: Of a request's body.
        max_pixels: Of a picture; it is refused before it is decoded.
        timeout: Seconds for a body to arrive, and then for its answer.
        waiting: Requests that may wait for a model; the next one is told to come back. So is one that would not be
            answered in time.
        memory: Bytes of all bodies that are held at once.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    timeout: float = 30.0
    waiting: int = 256
    memory: int = 500_000_000

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "timeout", "waiting"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0")


@dataclass(frozen=True)
class Source:
    """A model that is served.

    Attributes:
        name: In the server's addresses.
        path: As `dualvit.deploy.predictor.open_predictor` takes it.
        runtime: Likewise.
        threads: Of a pass, per worker.
        workers: Processes that answer for the model.
        batch: The most pictures that go through it at once.
    """

    name: str
    path: str
    runtime: str = "auto"
    threads: int = 1
    workers: int = 1
    batch: int = 8


def named(models: list[str]) -> dict[str, str]:
    """Return the path of each model by its name, of arguments NAME=PATH, or PATH, whose name is the file's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name cannot stand in an address, or two models have the same.

    Example:
        >>> named([f"doc={__file__}"])["doc"] == __file__
        True
    """
    found: dict[str, str] = {}
    for text in models:
        before, sign, after = text.partition("=")
        name, path = (before, after) if sign else (Path(text).resolve().stem, text)
        if not Path(path).exists():
            raise MissingFileError(f"no model at {path}; give a checkpoint or an exported file")
        if not NAME.fullmatch(name):
            raise InputError(f"a model is called {name!r}; give NAME=PATH with letters, digits, and _ . - in the name")
        if name in found:
            raise InputError(f"two models are called {name}; give one of them another name: NAME={path}")
        found[name] = path
    return found


def read_key(file: Path | None) -> bytes | None:
    """Return the key that requests must show; None without a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the key is too short to keep anyone out.
    """
    if file is None:
        return None
    if not file.is_file():
        raise MissingFileError(f"no key at {file}; write one line of {SHORTEST_KEY} characters or more into it")
    key = file.read_bytes().strip()
    if len(key) < SHORTEST_KEY or len(key.split()) > 1:
        raise InputError(f"the key in {file} has {len(key)} characters; give one word of {SHORTEST_KEY} or more")
    return key
