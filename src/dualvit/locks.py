"""One writer at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dualvit.errors import StateError
from dualvit.files import cannot

_held: set[IO[str]] = set()
if hasattr(os, "register_at_fork"):
    # A loader's workers outlive a killed command for seconds: they must not hold its folder.
    os.register_at_fork(after_in_child=lambda: [file.close() for file in _held])


@contextmanager
def only_writer(folder: Path, command: str) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it however the process ends.

    Args:
        folder: It is made.
        command: What the next one is told to wait for, such as "dualvit compare".

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(folder / ".lock")
    except OSError as error:
        raise cannot("write to", folder, error) from None
    if file is None:
        try:
            other = (folder / ".lock").read_text().strip()
        except (OSError, ValueError):
            other = ""
        raise StateError(f"{other or 'another command'} is at work in {folder}; wait for it, or give another place")
    with file:
        _held.add(file)
        try:
            file.truncate(0)
            file.write(f"another {command} (process {os.getpid()})")
            file.flush()
            yield
        finally:
            _held.discard(file)
            with suppress(OSError):  # Windows removes no open file
                (folder / ".lock").unlink()


def _open(path: Path) -> IO[str] | None:
    """The lock file, held; None if another process holds it."""
    while True:
        file = path.open("a")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except (ModuleNotFoundError, OSError):  # Windows, and file systems that know no locks
            return file
        try:
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        file.close()  # its holder took it away meanwhile
