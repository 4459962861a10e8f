"""The progress of an experiment: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dualvit.compare.experiment import Experiment
from dualvit.names import shortened

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
        self.reported: dict[str, int] = {}

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
            epochs = cell.progress().get("epochs") or []
            if epochs and epochs[-1]["epoch"] != self.reported.get(cell.name):
                self.reported[cell.name] = epochs[-1]["epoch"]
                value = epochs[-1][self.experiment.metric]
                self._line(f"{cell.name}: epoch {self._epoch(epochs)}, {self.experiment.metric} {100 * value:.1f}")

    def event(self, cell: "Cell", what: str) -> None:
        """Print a line where no table shows it."""
        if self.live is not None:
            return
        result = cell.result() if what == "done" else None
        more = (
            f", {result['metric']} {100 * result['last']:.1f}" if result else f": {cell.message}" * (what == "failed")
        )
        self._line(f"{cell.name}: {what}{more}")

    def _line(self, text: str) -> None:
        self.console.print(
            f"{clock(time.monotonic() - self.start)}  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def _epoch(self, epochs: list[dict[str, Any]]) -> str:
        done = epochs[-1]["epoch"] if epochs else 0
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
        progress = cell.progress() if cell.state in ("running", "done", "kept", "failed") else {}
        epochs = progress.get("epochs") or []
        state = WORDS.get(cell.state, cell.state)
        left = ""
        if cell.state == "running":
            share = float(progress.get("progress") or 0)
            state = f"{100 * share:3.0f} %" if share else "starting"
            seconds = time_left(cell, progress)
            left = clock(seconds) if seconds else ""
        value = f"{100 * epochs[-1][self.experiment.metric]:.1f}" if epochs else ""
        seconds = float(progress.get("seconds") or (epochs[-1]["seconds"] if epochs else 0))
        return [
            Text(shortened(cell.entry.label)), str(cell.seed), Text(state, STYLES[cell.state]),
            self._epoch(epochs) if progress else "", value, clock(seconds) if seconds else "", left,
        ]  # fmt: skip


def visible(cells: Sequence["Cell"], rows: int) -> Sequence["Cell"]:
    """As many cells as there are rows, with the running ones among them."""
    if len(cells) <= rows:
        return cells
    first = next((i for i, cell in enumerate(cells) if cell.state in ("running", "waiting")), len(cells))
    begin = max(0, min(first - 2, len(cells) - rows))
    return cells[begin : begin + max(rows, 3)]


def time_left(cell: "Cell", progress: dict[str, Any]) -> float | None:
    """Seconds until a running cell is done, if its speed stays; None while nothing is known."""
    share, seconds = float(progress.get("progress") or 0), float(progress.get("seconds") or 0)
    return seconds * (1 - share) / share if share > 0.01 and seconds else None


def remaining(cells: Sequence["Cell"], slots: int) -> float | None:
    """Seconds until all cells are done: what runs, and the mean of the known times for what waits."""
    known: dict[str, list[float]] = {}
    for cell in cells:
        progress = cell.progress() if cell.state not in ("waiting", "failed") else {}
        share, seconds = float(progress.get("progress") or 0), float(progress.get("seconds") or 0)
        if share > 0.01 and seconds:
            known.setdefault(cell.entry.label, []).append(seconds / share)
    if not known:
        return None
    means = {label: sum(times) / len(times) for label, times in known.items()}
    typical = sum(means.values()) / len(means)
    total = 0.0
    for cell in cells:
        if cell.state == "waiting":
            total += means.get(cell.entry.label, typical)
        elif cell.state == "running":
            left = time_left(cell, cell.progress())
            total += means.get(cell.entry.label, typical) if left is None else left
    return total / slots


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss.

    Example:
        >>> clock(75), clock(3675)
        ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
