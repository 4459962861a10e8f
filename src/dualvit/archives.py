"""Torch's archives with a digest of all their bytes: whether one is damaged, or cannot be read for another reason."""

import hashlib
import os
import pickle
import zipfile
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dualvit.errors import InputError
from dualvit.files import cannot

# The digest is the archive's comment, whose length precedes it: an archive without one ends in a length of 0.
LENGTH = hashlib.sha256().digest_size.to_bytes(2, "little")
SEALED, BARE = 22 + hashlib.sha256().digest_size, 22  # bytes from the last record on
LAST_RECORD = b"PK\x05\x06"


class DamagedError(InputError):
    """A file that does not hold the bytes that were written."""


class _Summed:
    """Passes on what torch writes, and adds it up."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save(content: Any, file: BinaryIO) -> None:
    """Write what `torch.save` writes, and a digest of it, so that any byte that changes later is seen.

    Args:
        content: What torch can save.
        file: Open for writing, and empty.

    Raises:
        OSError: the file cannot be written; torch's own error hides the reason.
        KeyboardInterrupt: the user stopped it, likewise.
    """
    summed = _Summed(file)
    try:
        # Not torch.save: Ultralytics puts a function in its place that tries again, into the same file.
        torch.serialization.save(content, summed)  # type: ignore[arg-type]
    except RuntimeError as error:  # what torch's writer makes of all that a file raises, an interrupt included
        cause: BaseException | None = error
        while cause is not None and isinstance(cause, Exception) and not isinstance(cause, OSError):
            cause = cause.__context__
        raise cause or error from None
    file.seek(-2, os.SEEK_END)
    file.write(LENGTH + summed.sum.digest())


def load(path: Path, **options: Any) -> Any:
    """Read an archive that is whole; no pickled code is run.

    Args:
        path: The file.
        options: Further ones of `torch.load`.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: its bytes are not those that were written.
        OSError: it cannot be read for another reason, such as a permission or too little memory.
        ValueError: it is whole, and not what `torch.save` writes of plain values.
    """
    sealed = require_whole(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, **options)
    except (OSError, MemoryError) as error:
        raise cannot("read", path, error) from None
    except Exception as error:  # torch raises many kinds for content that it did not write
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if any(word in line.lower() for word in ("memory", "allocate", "mmap")):
            raise cannot("read", path, MemoryError()) from None
        if isinstance(error, pickle.UnpicklingError):  # its text speaks of torch's settings
            raise InputError(f"{path} holds more than numbers, texts and tensors; name another file") from None
        # Without a digest, torch may stumble over what no checksum covers.
        raise (ValueError if sealed else DamagedError)(f"{path} is damaged or no checkpoint ({line})") from None


def require_whole(path: Path) -> bool:
    """Check a file's digest, or the checksums of an archive that has none.

    Returns:
        Whether it has a digest.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: its bytes are not those that were written.
        OSError: it cannot be read for another reason.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - SEALED))
            end = file.read()
            file.seek(0)
            if end.startswith(LAST_RECORD) and end[20:22] == LENGTH:
                if _digest(file, size - SEALED + 20) != end[22:]:
                    raise DamagedError(
                        f"{path} is damaged: its bytes are not those that were written; name another one"
                    )
                return True
            bare = end[-BARE:].startswith(LAST_RECORD) and end.endswith(b"\0\0")
            if not bare or not _checksums_agree(file):
                raise DamagedError(f"{path} is damaged or no checkpoint; name another one")
            return False
    except FileNotFoundError:
        raise
    except (OSError, MemoryError) as error:
        raise cannot("read", path, error) from None


def set_aside(file: Path) -> Path:
    """Rename a damaged file to NAME.damaged, or to NAME-2.damaged where there is one from before; returns that."""
    names = (f"{file.stem}{'' if number == 1 else f'-{number}'}.damaged" for number in count(1))
    return file.rename(next(place for name in names if not (place := file.with_name(name)).exists()))


def _digest(file: BinaryIO, size: int) -> bytes:
    """Of the first bytes of a file, and of the length 0 that stood after them when they were added up."""
    digest = hashlib.sha256()
    while size:
        part = file.read(min(size, 1 << 20))
        if not part:
            break
        digest.update(part)
        size -= len(part)
    digest.update(b"\0\0")
    return digest.digest()


def _checksums_agree(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            plain = all(
                (i.compress_type, i.compress_size, i.external_attr) == (0, i.file_size, 0) for i in archive.infolist()
            )
            return plain and archive.testzip() is None
    except OSError as error:
        if error.errno is None or error.errno == 22:  # a place before the beginning, which a damaged table names
            return False
        raise
    except MemoryError:
        raise
    except Exception:  # zipfile raises many kinds for what it does not understand
        return False
