"""Where the pictures of a batch lie: a folder, WebDataset shards, or an object store; listed once, and opened by item.

A picture in a shard is found by its place in the tar file, so that each worker reads only the bytes that it needs, and
nothing is unpacked.
"""

import re
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

from PIL import Image

from dualvit.data.images import SUFFIXES, TooLargeError, UnreadableError, open_rgb, pictures_in
from dualvit.errors import InputError, MissingExtraError, MissingFileError, StateError, line_of
from dualvit.files import at_limit, cannot, writable
from dualvit.names import is_shards

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
LARGEST = 1 << 30  # bytes of a picture's file
TRIES, WAIT = 3, 1.0  # of a store that does not answer, and the seconds after the first try
WHOLE, LOST = -1, -2  # offsets of an item that is a file of its own, and of a shard's end that cannot be read
REASONS = (
    "zero bytes", "not a picture", "truncated", "damaged", "too large", "vanished", "permission", "damaged shard",
    "no answer",
)  # fmt: skip
Got = TypeVar("Got")


class BadPictureError(InputError):
    """A picture that gets no answer; `reason` is one of REASONS, and the message says it in a line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Item:
    """A picture that is asked about.

    Attributes:
        name: What its row calls it: the path from the source on, or SHARD:MEMBER.
        place: Its file, or its shard.
        offset: Where it begins in its shard; WHOLE of a file, LOST of what a damaged shard has lost.
        size: Its bytes, where they are known; else -1.
    """

    name: str
    place: str
    offset: int = WHOLE
    size: int = -1


class Source:
    """Pictures of a folder, of shards, or of a store; the same text makes the same source on any machine.

    Args:
        text: A folder, tar files such as train-{000..099}.tar, or the address of either, such as s3://bucket/pictures.
    """

    def __init__(self, text: str) -> None:
        self.text, self._files = text, None if not URL.match(text) else Store(text)

    def require(self) -> None:
        """Stop early at a place that is not there.

        Raises:
            FileNotFoundError: there is no such folder on this machine.
            ValueError: it is the output of a command.
        """
        if self.text.startswith("pipe:"):
            raise InputError(f"{self.text[:80]} is a command's output, which cannot be read twice; give tar files")
        if self._files is None and not is_shards(self.text) and not Path(self.text).exists():
            raise MissingFileError(f"no pictures at {self.text}; give a folder, tar files, or the address of a store")

    def items(self, notes: list[str]) -> Iterator[Item]:
        """Yield all pictures in order.

        Args:
            notes: Takes a line for what is left out.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: it is no place that can be read.
        """
        self.require()
        if is_shards(self.text):
            for shard in shards_of(self.text):
                yield from self._members(shard)
        elif self._files is not None:
            yield from self._files.items(notes)
        else:
            root = Path(self.text)
            for file in pictures_in(root, notes) if root.is_dir() else [root]:
                yield Item(writable(str(file.relative_to(root) if root.is_dir() else file)), str(file))

    def open(self, item: Item) -> Image.Image:
        """Decode a picture, upright and in RGB.

        Raises:
            BadPictureError: with the reason.
            OSError: memory, or open files, have run out: no picture is to blame.
            RuntimeError: the store does not answer.
        """
        if item.offset == LOST:
            raise BadPictureError("damaged shard", f"{item.name} is damaged; what follows in it is lost")
        if item.size > LARGEST:
            raise BadPictureError("too large", f"{item.name} has {item.size} bytes; {LARGEST} is the most")
        if self._files is None and item.offset == WHOLE:
            return _decoded(Path(item.place), item.name)
        content = self._content(item)
        if not content:
            raise BadPictureError("zero bytes", f"{item.name} has no bytes")
        if len(content) < item.size:
            raise BadPictureError("truncated", f"{item.name} has {len(content)} of {item.size} bytes")
        return _decoded(BytesIO(content), item.name)

    def _content(self, item: Item) -> bytes:
        if self._files is not None:
            return self._files.read(item)
        try:
            with Path(item.place).open("rb") as file:
                file.seek(item.offset)
                return file.read(item.size)
        except OSError as error:
            raise _refused(error, item.name) from None

    def _members(self, shard: str) -> Iterator[Item]:
        """The pictures of a tar file, by its heads alone; links, devices and hidden files count for nothing."""
        names: set[str] = set()
        try:
            opened: IO[bytes] = Path(shard).open("rb") if self._files is None else self._files.open(shard)  # noqa: SIM115
        except FileNotFoundError:
            raise MissingFileError(f"no shard at {shard}; give tar files that are there") from None
        except OSError as error:
            raise cannot("read", shard, error) from None
        with opened:
            try:
                with tarfile.open(fileobj=opened, mode="r:") as tar:
                    for member in tar:
                        path = Path(member.name)
                        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                        if not plain or path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                            continue
                        name = f"{shard}:{member.name}"
                        name = f"{name}@{member.offset_data}" if name in names else name  # a tar may hold two of a name
                        names.add(name)
                        yield Item(writable(name), shard, member.offset_data, member.size)
            except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
                yield Item(writable(f"{shard} ({line_of(error, 80)})"), shard, LOST)


def shards_of(text: str) -> list[str]:
    """Return the tar files that a text names, such as train-{000..099}.tar.

    Raises:
        ModuleNotFoundError: webdataset, which knows how ranges are written, is not installed.
    """
    try:
        import webdataset
    except ModuleNotFoundError:
        raise MissingExtraError("shards need webdataset; install dualvit[batch]") from None
    return [str(url) for url in webdataset.SimpleShardList(text).urls]


class Store:
    """An object store, or any file system that pyarrow or fsspec knows by an address.

    Args:
        text: The address; of shards, with their range.
    """

    def __init__(self, text: str) -> None:
        self.text, self.scheme = text, text.partition("://")[0]
        self.system, self.root = _system(shards_of(text)[0] if is_shards(text) else text)

    def items(self, notes: list[str]) -> Iterator[Item]:
        """Yield all pictures below the address, in order."""
        from pyarrow import fs

        infos = self._asked(lambda: self.system.get_file_info(fs.FileSelector(self.root, recursive=True)))
        others = 0
        for info in sorted(infos, key=lambda one: one.path):
            path = Path(info.path)
            inner = info.path[len(self.root) :].strip("/")
            if info.type != fs.FileType.File or any(part.startswith(".") for part in Path(inner).parts):
                continue
            if path.suffix.lower() in SUFFIXES:
                yield Item(inner, info.path, size=-1 if info.size is None else info.size)
            else:
                others += 1
        if others:
            notes.append(f"{self.text}: {others} files are no pictures that can be read here, and are left out")

    def open(self, address: str) -> Any:
        """Return an open file of the store."""
        return self._asked(lambda: self.system.open_input_file(_system(address)[1]))

    def read(self, item: Item) -> bytes:
        """Return the bytes of a picture.

        Raises:
            BadPictureError: it is not there, or may not be read.
            RuntimeError: the store does not answer.
        """
        place = item.place if item.offset == WHOLE else _system(item.place)[1]

        def content() -> bytes:
            with self.system.open_input_file(place) as file:
                if item.offset == WHOLE:
                    return bytes(file.read(LARGEST + 1))
                file.seek(item.offset)
                return bytes(file.read(item.size))

        try:
            return self._asked(content)
        except OSError as error:
            raise _refused(error, item.name) from None

    def _asked(self, ask: Callable[[], Got]) -> Got:
        for left in reversed(range(TRIES)):
            try:
                return ask()
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                if not left:
                    raise StateError(f"{self.text} does not answer: {line_of(error, 200)}; try again later") from None
            time.sleep(WAIT * 2 ** (TRIES - 1 - left))
        raise AssertionError


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it: pyarrow's own, or else fsspec's."""
    from pyarrow import ArrowException, fs

    scheme = address.partition("://")[0]
    try:
        return fs.FileSystem.from_uri(address)
    except (ArrowException, OSError, ImportError) as error:
        if "Unrecognized filesystem" not in str(error) and "built" not in str(error):
            raise InputError(f"{address} cannot be opened: {line_of(error, 200)}; correct the address") from None
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(f"{scheme}:// needs a library: {line_of(error, 120)}") from None
    except ValueError as error:
        raise InputError(f"{address[:80]} is no address that is known: {line_of(error, 120)}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def _decoded(file: Path | IO[bytes], name: str) -> Image.Image:
    try:
        if isinstance(file, Path):
            about = file.stat()
            if not stat.S_ISREG(about.st_mode):  # a pipe would never end
                raise BadPictureError("not a picture", f"{name} is no file")
            if not about.st_size:
                raise BadPictureError("zero bytes", f"{name} has no bytes")
            if about.st_size > LARGEST:
                raise BadPictureError("too large", f"{name} has {about.st_size} bytes; {LARGEST} is the most")
            file.open("rb").close()
        return open_rgb(file, name)
    except BadPictureError:
        raise
    except TooLargeError as error:
        raise BadPictureError("too large", line_of(error)) from None
    except UnreadableError as error:
        raise BadPictureError(_reason(file, str(error)), line_of(error)) from None
    except OSError as error:
        raise _refused(error, name) from None


def _reason(file: Path | IO[bytes], message: str) -> str:
    """Why a picture cannot be decoded: whether its head is one of a picture, and whether its end is missing."""
    if isinstance(file, Path) and not file.is_file():
        return "not a picture" if file.exists() else "vanished"
    if "no format that Pillow knows" in message:
        return "not a picture"
    if any(word in message.lower() for word in ("truncat", "not enough", "unexpected end", "premature")):
        return "truncated"
    return "damaged"


def _refused(error: OSError, name: str) -> Exception:
    """The answer to an error of the system: of a picture, or of the machine."""
    if at_limit(error):
        return cannot("read", name, error)
    reason = {FileNotFoundError: "vanished", PermissionError: "permission"}.get(type(error), "damaged")
    said = {"vanished": "is not there any more", "permission": "may not be read"}.get(reason, line_of(error, 120))
    return BadPictureError(reason, f"{name} {said}" if reason != "damaged" else f"{name}: {said}")
