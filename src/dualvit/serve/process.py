"""A worker's process, as its pool sees it: `Local` on this machine, or `dualvit.serve.cluster.Remote` on Ray."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection as connections
from multiprocessing import get_context
from typing import Any, Protocol

from dualvit.serve.limits import Source
from dualvit.serve.worker import Order, Reply, work


class GoneError(OSError):
    """A worker that is asked is no more."""


class Process(Protocol):
    """A process with a model in it; one thread talks to it, and any thread may kill it."""

    def begin(self) -> dict[str, Any]:
        """Wait until the model is open; return `{"about": ...}`, or `{"fault": why it is not}`.

        Raises:
            OSError: the process ended.
        """

    def ask(self, orders: Sequence[Order] | None) -> list[Reply] | None:
        """Return a reply per order; None to None, which asks whether it is there.

        Raises:
            OSError: the process ended.
        """

    def is_alive(self) -> bool:
        """Whether it runs."""

    def kill(self) -> None:
        """Kill it; nothing if it has ended."""

    def end(self) -> None:
        """Let it go, and wait until it is gone."""


Start = Callable[[Source, int], Process]  # of a model, with the most pixels of a picture


class Local:
    """A process of this machine, forked off one that has imported all libraries: see `dualvit.serve.forks`.

    Raises:
        OSError: there are too many files or processes, or what forks was killed.
    """

    def __init__(self, source: Source, max_pixels: int) -> None:
        context = get_context("forkserver")
        self.connection, theirs = context.Pipe()
        with theirs:  # closed at once, so that the end of the process is the end of the connection
            self.process = context.Process(
                target=work, args=(theirs, source, max_pixels), name=source.name, daemon=True
            )
            self.process.start()

    def begin(self) -> dict[str, Any]:
        """See `Process`."""
        return dict(self._received())

    def ask(self, orders: Sequence[Order] | None) -> list[Reply] | None:
        """See `Process`."""
        self.connection.send(orders)
        replies: list[Reply] | None = self._received()
        return replies

    def _received(self) -> Any:
        try:
            return self.connection.recv()
        except EOFError:
            raise GoneError("the process ended") from None

    def is_alive(self) -> bool:
        """See `Process`."""
        return not connections.wait([self.process.sentinel], 0)

    def kill(self) -> None:
        """See `Process`."""
        with suppress(OSError):  # it ended meanwhile
            self.process.kill()

    def end(self) -> None:
        """End it: a closed connection lets it go, and what does not go is killed.

        The process is not closed, but forgotten by its owner. `multiprocessing` reads the ends of all processes
        whenever any thread starts one. If their pipes were closed meanwhile, it would read from whatever has the
        number next, for ever.
        """
        self.connection.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
