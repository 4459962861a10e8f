"""What a long command is doing, on stderr: a bar on a terminal, and elsewhere a line each five seconds.

It imports no library, so that it can also show that libraries are being imported.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

# Of a training's epoch: its number, scores, and seconds so far.
Row = dict[str, float]
# Is told the share that is done, the seconds of training so far, and the epochs once one is on disk.
Listener = Callable[[float, float, list[Row] | None], None]

FIRST, EVERY = 1.0, 5.0  # seconds to the first line, and from one to the next
LIBRARIES = 4.0  # seconds to the first line where libraries are imported, which mostly takes less


def time_left(seconds: float, share: float) -> float:
    """Return the seconds until all is done, if a share of it, above 0, took so many.

    Example:
        >>> time_left(30.0, 0.25)
        90.0
    """
    return seconds * (1 - share) / share


@contextmanager
def shown(
    *columns: ProgressColumn, bar: bool = True, transient: bool = True, first: float | None = None
) -> Iterator[Progress]:
    """Show the tasks of a rich Progress.

    Args:
        columns: Of the bar.
        bar: Draw it on a terminal; where Lightning draws its own, do not.
        transient: Take the bar away at the end.
        first: Seconds to the first line in a log; FIRST where left out.
    """
    console = Console(stderr=True)
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=transient, disable=not (terminal and bar)) as progress:
        ended = threading.Event()
        lines = threading.Thread(target=_lines, args=(progress, ended, first or FIRST), daemon=True)
        if not terminal:
            lines.start()
        try:
            yield progress
        finally:
            ended.set()
            if lines.is_alive():
                lines.join()


def _lines(progress: Progress, ended: threading.Event, wait: float) -> None:
    """Print the newest task that is not finished, until the end."""
    while not ended.wait(wait):
        wait = EVERY
        running = [task for task in progress.tasks if task.visible and not task.finished]
        for task in running[-1:]:
            share = f" {task.completed:g} of {task.total:g}," if task.total else ""
            print(f"{task.description}:{share} {task.elapsed or 0:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def working(what: str, bar: bool = True, first: float | None = None) -> Iterator["Report"]:
    """Show one task, named `what`; yields what is to be called with (done, total) where these are known."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with shown(*columns, bar=bar, first=first) as progress:
        yield Report(progress, what)


def importing() -> AbstractContextManager["Report"]:
    """Show that libraries are imported, where this takes long."""
    return working("importing libraries", first=LIBRARIES)


class Report:
    """Tells a bar how far its task is.

    Args:
        progress: The bar.
        what: The name of the task.
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self.progress, self.task = progress, progress.add_task(what, total=None)

    def __call__(self, done: int, total: int, what: str | None = None) -> None:
        """Say how much is done, of how much, and of what where that is not the name any more."""
        self.progress.update(self.task, completed=done, total=total, description=what)

    def begin(self, what: str) -> None:
        """Say what is done from now on; how much of it is not known."""
        self.progress.update(self.task, visible=False)
        self.task = self.progress.add_task(what, total=None)
