"""The progress of an experiment: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dualvit.compare.experiment import Experiment
from dualvit.compare.results import Progress
from dualvit.names import shortened
from dualvit.progress import time_left as seconds_left

if TYPE_CHECKING:
    from dualvit.compare.runner import Cell

STYLES = {"waiting": "dim", "running": "bold cyan", "done": "green", "kept": "green", "failed": "bold red"}
WORDS = {"kept": "done before"}


class Screen:
    """Shows the cells while they run; used as a context.

    Args:
        console: Where it goes.
        experiment: For its budget and its metric.
        slots: How many cells run side by side.
    """

    def __init__(self, console: Console, experiment: Experiment, slots: int) -> None:
        self.console, self.experiment, self.slots = console, experiment, slots
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.start = time.monotonic()
        self.reported: dict[str, float | None] = {}

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def update(self, cells: Sequence["Cell"]) -> None:
        """Draw the table anew, or print a line for each epoch that is new."""
        if self.live is not None:
            self.live.update(self.table(cells), refresh=True)
            return
        for cell in cells:
            if cell.state != "running":
                continue
            epochs = cell.progress().epochs
            if epochs and epochs[-1]["epoch"] != self.reported.get(cell.name):
                self.reported[cell.name] = epochs[-1]["epoch"]
                metric = self.experiment.metric
                self._line(f"{cell.name}: epoch {self._epoch(epochs)}, {metric} {points(epochs[-1][metric])}")

    def event(self, cell: "Cell", what: str) -> None:
        """Print a line where no table shows it."""
        if self.live is not None:
            return
        result = cell.result() if what == "done" else None
        more = f", {result.metric} {points(result.last)}" if result else f": {cell.message}" * (what == "failed")
        self._line(f"{cell.name}: {what}{more}")

    def _line(self, text: str) -> None:
        self.console.print(
            f"{clock(max(time.monotonic() - self.start, 1e-9))}  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def _epoch(self, epochs: Sequence[Mapping[str, float | None]]) -> str:
        done = round(epochs[-1]["epoch"] or 0) if epochs else 0
        return f"{done}/{self.experiment.epochs}" if self.experiment.epochs else str(done)

    def table(self, cells: Sequence["Cell"]) -> Table:
        """One row a cell, and below it the time that is left; on a low screen, the rows around what runs."""
        left = remaining(cells, self.slots)
        done = sum(cell.state in ("done", "kept") for cell in cells)
        failed = sum(cell.state == "failed" for cell in cells)
        caption = f"{done} of {len(cells)} cells done" + (f", {failed} failed" if failed else "")
        caption += f", about {clock(left)} left" if left else ""
        table = Table(box=None, header_style="bold", caption=caption, caption_justify="left", caption_style="")
        for column in ("model", "seed", "state", "epoch", self.experiment.metric, "elapsed", "left"):
            table.add_column(column, justify="left" if column in ("model", "state") else "right", no_wrap=True)
        for cell in visible(cells, self.console.height - 6):
            table.add_row(*self._row(cell))
        return table

    def _row(self, cell: "Cell") -> list[str | Text]:
        progress = Progress() if cell.state == "waiting" else cell.progress()
        state, left = WORDS.get(cell.state, cell.state), ""
        if cell.state == "running":
            state = f"{100 * progress.progress:3.0f} %" if progress.progress else "starting"
            left = clock(time_left(progress) or 0)
        value = points(progress.epochs[-1][self.experiment.metric]) if progress.epochs else ""
        return [
            Text(shortened(cell.entry.label)), str(cell.seed), Text(state, STYLES[cell.state]),
            "" if cell.state == "waiting" else self._epoch(progress.epochs), value, clock(progress.seconds), left,
        ]  # fmt: skip


def visible(cells: Sequence["Cell"], rows: int) -> Sequence["Cell"]:
    """As many cells as there are rows, with the running ones among them."""
    if len(cells) <= rows:
        return cells
    first = next((i for i, cell in enumerate(cells) if cell.state in ("running", "waiting")), len(cells))
    begin = max(0, min(first - 2, len(cells) - rows))
    return cells[begin : begin + max(rows, 3)]


def time_left(progress: Progress) -> float | None:
    """Return seconds until a running cell is done, if its speed stays; None while nothing is known."""
    if progress.progress <= 0.01 or not progress.seconds:
        return None
    return seconds_left(progress.seconds, progress.progress)


def remaining(cells: Sequence["Cell"], slots: int) -> float | None:
    """Return seconds until all cells are done: those of what runs, and the mean of the known times for what waits."""
    known: dict[str, list[float]] = {}
    for cell in cells:
        progress = Progress() if cell.state in ("waiting", "failed") else cell.progress()
        if (left := time_left(progress)) is not None:
            known.setdefault(cell.entry.label, []).append(progress.seconds + left)
    if not known:
        return None
    means = {label: sum(times) / len(times) for label, times in known.items()}
    typical = sum(means.values()) / len(means)
    total = 0.0
    for cell in cells:
        if cell.state == "waiting":
            total += means.get(cell.entry.label, typical)
        elif cell.state == "running":
            left = time_left(cell.progress())
            total += means.get(cell.entry.label, typical) if left is None else left
    return total / slots


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss or m:ss; nothing for none.

    Example:
        >>> clock(75), clock(3675)
        ('1:15', '1:01:15')
    """
    if not seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def points(share: float | None) -> str:
    """Return a share in hundredths, such as 91.2."""
    return "none" if share is None else f"{100 * share:.1f}"
