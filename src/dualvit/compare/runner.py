"""`dualvit compare`: train every model with every seed at an equal budget, each in a process of its own.

A finished cell is a `result.json` that was written whole; running the command again keeps it. Cells
go seed by seed, so that an experiment that is stopped early has all models at equal seeds.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from dualvit.compare.cost import is_current
from dualvit.compare.engine import MODULES, DataSet, check_models, engine, import_modules, prepare_data, require
from dualvit.compare.experiment import Entry, Experiment
from dualvit.compare.processes import failure, preload, spawn, stop
from dualvit.compare.reading import load
from dualvit.compare.results import Costs, Kept, Progress, Result, read, require_different_seeds
from dualvit.compare.screen import Screen
from dualvit.compare.sweep import Swept, at_chosen_rates, choose, held_out
from dualvit.errors import InputError, StateError
from dualvit.files import write_json
from dualvit.locks import only_writer
from dualvit.progress import LIBRARIES, working
from dualvit.provenance import cores

POLL = 0.25  # seconds
SHOWN = 5  # settings that changed, named in an error


@dataclass
class Cell:
    """A model with a seed: where its files are, and how far it is.

    Attributes:
        state: waiting, running, done (now), kept (from an earlier run) or failed.
    """

    entry: Entry
    seed: int
    folder: Path
    metric: str
    state: str = "waiting"
    process: BaseProcess | None = None
    slot: int = 0
    message: str = ""
    started: float = 0.0
    ended: float = 0.0

    @property
    def name(self) -> str:
        """Label and seed."""
        return f"{self.entry.label} seed {self.seed}"

    def result(self) -> Result | None:
        """Read what the finished cell came to.

        Raises:
            ValueError: the file is damaged, or of another cell.
        """
        file = self.folder / "result.json"
        result = read(Result, file, "delete it, and the cell goes on from its last epoch")
        if result is None:
            return None
        for key in ("label", "name"):
            if getattr(result, key) != getattr(self.entry, key):
                raise InputError(
                    f"{file} is of another cell: its {key} is not {getattr(self.entry, key)!r}; move it away"
                )
        if (result.seed, result.metric) != (self.seed, self.metric):
            raise InputError(f"{file} is of another cell: not of seed {self.seed} and {self.metric}; move it away")
        if any(not isinstance(row.get(key), int | float) for row in result.epochs for key in ("epoch", self.metric)):
            raise InputError(f"{file} has an epoch without its number or its {self.metric}; delete it, and run again")
        return result

    def progress(self) -> Progress:
        """Read what the cell last reported."""
        return read(Progress, self.folder / "progress.json") or Progress()


@dataclass(frozen=True)
class Slot:
    """A place where a cell can run: a GPU by the name that CUDA_VISIBLE_DEVICES takes, or None for the CPU."""

    gpu: str | None
    threads: int


@dataclass
class Runner:
    """Runs the cells that have no result yet."""

    experiment: Experiment
    data: DataSet
    slots: list[Slot]
    keep: bool = True  # what networks say of each picture
    cells: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        for seed in self.experiment.seeds:
            for entry in self.experiment.rows:
                folder = self.experiment.output / "cells" / f"{entry.slug}-s{seed}"
                cell = Cell(entry, seed, folder, self.experiment.metric)
                cell.state = "kept" if cell.result() else "waiting"
                self.cells.append(cell)

    def run(self, screen: Screen) -> None:
        """Run all waiting cells; when interrupted, stop those that run and raise again."""
        try:
            while any(cell.state in ("waiting", "running") for cell in self.cells):
                self._collect(screen)
                self._start(screen)
                screen.update(self.cells)
                time.sleep(POLL)
        finally:
            stop([cell.process for cell in self.cells if cell.process is not None and cell.state == "running"])
            screen.update(self.cells)

    def _start(self, screen: Screen) -> None:
        busy = {cell.slot for cell in self.cells if cell.state == "running"}
        for index, slot in enumerate(self.slots):
            cell = next((cell for cell in self.cells if cell.state == "waiting"), None)
            if index in busy or cell is None:
                continue
            cell.folder.mkdir(parents=True, exist_ok=True)
            (cell.folder / "failure.txt").unlink(missing_ok=True)
            spec = {
                "experiment": self.experiment.mapping(), "model": cell.entry.label, "seed": cell.seed,
                "data": self.data.path, "classes": self.data.classes, "cuda": slot.gpu is not None,
                "threads": slot.threads, "keep": self.keep,
            }  # fmt: skip
            write_json(cell.folder / "cell.json", spec)
            cell.process = spawn(cell.folder, slot.gpu)
            cell.slot, cell.state, cell.started = index, "running", time.monotonic()
            screen.event(cell, "continues" if cell.progress().epochs else "starts")

    def _collect(self, screen: Screen) -> None:
        for cell in self.cells:
            if cell.state != "running" or cell.process is None or cell.process.exitcode is None:
                continue
            cell.ended = time.monotonic()
            if cell.result():
                cell.state = "done"
            else:
                cell.state = "failed"
                cell.message = failure(cell.folder, cell.process.exitcode)
            screen.event(cell, cell.state)


def find_slots(experiment: Experiment) -> list[Slot]:
    """The places for cells on the device that the experiment names.

    Raises:
        ValueError: a GPU that is not there.
    """
    count, wanted = torch.cuda.device_count(), experiment.device
    if wanted == "cpu" or (wanted == "auto" and not count):
        return [Slot(None, max(1, cores() // experiment.jobs))] * experiment.jobs
    numbers = {"auto": list(range(count)), "cuda": [0]}.get(wanted) or [int(n) for n in wanted.split(",")]
    if not count or max(numbers) >= count:
        raise InputError(f"device is {experiment.device!r}, but torch sees {count} GPUs; give cpu, or numbers below")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    threads = max(1, cores() // (len(numbers) * experiment.jobs))
    return [Slot(names[number], threads) for _ in range(experiment.jobs) for number in numbers]


def same_settings(experiment: Experiment, data: DataSet, keep: bool = True) -> None:
    """Keep the settings beside the results, and refuse to mix results of different ones.

    Models and seeds may be added, left out and put in another order. Without `keep`, models are not looked at: before
    the sweep they have no rates.

    Raises:
        ValueError: naming what changed, and the ways out.
    """
    file = experiment.output / "experiment.json"
    settings = experiment.decisive()
    settings |= {"classes": data.classes, "train images": data.train, "val images": data.val}
    settings |= {"test images": data.test} if data.test else {}
    settings = json.loads(json.dumps(settings, default=str))  # as it is read back
    models = {e.label: {k: v for k, v in e.mapping().items() if k != "label"} for e in experiment.models}
    old = read(Kept, file, f"delete {experiment.output}, or name another `output`")
    if old is not None and any((experiment.output / "cells").glob("*/*")):
        before = old.settings
        names = [*settings, *(name for name in before if name not in settings)]
        changes = [f"{name} was {before.get(name)!r}" for name in names if before.get(name) != settings.get(name)]
        changes += [
            f"model {label!r} was {old.models[label]}"
            for label, model in models.items()
            if keep and old.models.get(label, model) != model
        ]
        if changes:
            more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
            raise InputError(
                f"the results in {experiment.output} are of other settings ({'; '.join(changes[:SHOWN])}{more}); "
                "set them back, name another `output`, or delete that folder"
            )
        models = {**old.models, **models}
    if not keep:
        return
    experiment.output.mkdir(parents=True, exist_ok=True)
    write_json(file, {"settings": settings, "models": models})


def measure_cost(experiment: Experiment, data: DataSet, labels: list[str], slot: Slot) -> Costs:
    """Measure parameters, multiply-adds and latencies of the models, in one process; anew when something is added."""
    folder = experiment.output
    costs = read(Costs, folder / "cost.json")
    if costs is not None and is_current(costs, experiment, labels, slot.gpu is not None):
        return costs
    spec = {
        "experiment": experiment.mapping(), "labels": labels, "data": data.path, "classes": data.classes,
        "cuda": slot.gpu is not None,
        "threads": slot.threads * experiment.jobs,  # all that cells had; asked again, Ultralytics would have said 1
    }  # fmt: skip
    write_json(folder / "cost-spec.json", spec)
    (folder / "failure.txt").unlink(missing_ok=True)
    process = spawn(folder, slot.gpu, measure=True)
    with working("measuring latency"):
        try:
            process.join()
        finally:
            stop([process])
    costs = None if process.exitcode else read(Costs, folder / "cost.json")
    if costs is None:
        raise StateError(f"measuring the cost failed: {failure(folder, process.exitcode)}")
    return costs


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: cells are stopped, and the terminal is left in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(path: Path, console: Console, changes: Iterable[str] = ()) -> bool:
    """Run an experiment, or what is left of it, and write its report.

    Args:
        path: The YAML file, or the name of an experiment that comes with the package.
        console: Takes progress, the table, and where the report is.
        changes: Of the experiment, such as `epochs=3`.

    Returns:
        Whether every cell has a result.

    Raises:
        ValueError: a mistake in the YAML, or settings that changed since the results were made.
        FileNotFoundError: no YAML, no data set, or one without pictures.
    """
    experiment = load(path, changes)
    require(experiment)
    import_modules(experiment)
    slots = find_slots(experiment)
    preload(MODULES[experiment.engine], cuda=slots[0].gpu is not None)
    with only_writer(experiment.output, "dualvit compare"), terminable():
        with working("data", first=LIBRARIES) as report:
            data = prepare_data(experiment, report)
            report.begin("models")
            check_models(experiment, data)  # a mistake shows before anything is trained
        for note in data.notes:
            _say(console, f"note: {note}")
        swept: list[Swept] = []
        try:
            if experiment.sweep is not None:
                same_settings(experiment, data, keep=False)
                swept = _choose_rates(experiment, data, slots, console)
                experiment = at_chosen_rates(experiment, swept)
            runner = _train(experiment, data, slots, console)
        except KeyboardInterrupt:
            _say(console, "the same command continues from the last finished epochs")
            raise
        _report(experiment, data, runner, console, swept)
    for cell in runner.cells:
        if (result := cell.result()) and result.skipped:
            _say(console, f"{cell.name}: {len(result.skipped)} skipped, such as: {result.skipped[0]}")
    failed = [cell for cell in runner.cells if cell.state == "failed"]
    for cell in failed:
        console.print(Text.assemble(("failed", "red"), f" {cell.name}: {cell.message}"), soft_wrap=True)
    if failed:
        console.print("run the same command again to retry", highlight=False)
    return not failed


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _train(experiment: Experiment, data: DataSet, slots: list[Slot], console: Console, keep: bool = True) -> Runner:
    """Train the cells that have no result yet, and `keep` what they say of each picture."""
    same_settings(experiment, data)
    runner = Runner(experiment, data, slots, keep)
    with Screen(console, experiment, len(slots)) as screen:
        runner.run(screen)
    return runner


def _choose_rates(experiment: Experiment, data: DataSet, slots: list[Slot], console: Console) -> list[Swept]:
    """Sweep the learning rates of all models, and say what came out."""

    def train(trials: Experiment, part: DataSet) -> dict[str, Result | str]:
        cells = _train(trials, part, slots, console, keep=False).cells
        return {cell.entry.label: cell.result() or cell.message for cell in cells}

    swept = choose(experiment, held_out(experiment, data), train)
    for one in swept:
        _say(console, str(one))
        for rate, message in one.failed.items():
            _say(console, f"note: {one.label} at {rate} failed: {message}")
        if words := one.doubt():
            _say(console, f"note: {words}")
    return swept


def _report(experiment: Experiment, data: DataSet, runner: Runner, console: Console, swept: Sequence[Swept]) -> None:
    """Show everything that is known from the finished cells, on the screen and in files."""
    from dualvit.compare.pages import report_all
    from dualvit.compare.report import Failure, summarise

    results = [result for cell in runner.cells if (result := cell.result())]
    if not results:
        return
    require_different_seeds(results)
    labels = [e.label for e in experiment.rows if any(r.label == e.label for r in results)]
    costs = measure_cost(experiment, data, labels, runner.slots[0])
    failures = [Failure(cell.name, cell.message) for cell in runner.cells if cell.state == "failed"]
    constant = engine(experiment, experiment.models[0], data.path).constant(experiment.score)
    report_all(experiment, data, summarise(experiment, data, results, costs, failures, swept, constant), console)
