"""What runs in a process of its own: a cell of an experiment, or the measurement of what all models cost."""

import multiprocessing
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dualvit.allocator import keep_freed_memory
from dualvit.bench.cost import PeakMemory
from dualvit.compare.cost import run_cost
from dualvit.compare.engine import Engine, Place, engine, import_modules
from dualvit.compare.experiment import Experiment
from dualvit.compare.predictions import coco_scores, write_predictions
from dualvit.compare.reading import parse
from dualvit.compare.results import Progress, Result, read
from dualvit.errors import InputError, line_of
from dualvit.files import read_json, write_atomic, write_json
from dualvit.finite import NonFiniteLossError
from dualvit.progress import Row
from dualvit.provenance import environment

REPORT_EVERY = 0.5  # seconds
SAID = (ValueError, OSError, NonFiniteLossError, ModuleNotFoundError)  # they say by themselves what is wrong


class Reporter:
    """Writes how far a training is to `progress.json`, each epoch and between; starts `memory` with the training."""

    def __init__(self, folder: Path, memory: PeakMemory) -> None:
        self.path, self.memory = folder / "progress.json", memory
        kept = read(Progress, self.path)
        self.epochs: list[Any] = kept.epochs if kept else []
        self.written: float | None = None

    def __call__(self, share: float, seconds: float, rows: list[Row] | None) -> None:
        """Take the share that is done, the seconds so far, and the epochs once one is on disk."""
        if self.written is None:
            self.memory.start()
        if rows is not None:
            self.epochs = rows
        elif self.written is not None and time.monotonic() - self.written <= REPORT_EVERY:
            return
        write_json(self.path, {"epochs": self.epochs, "progress": share, "seconds": seconds})
        self.written = time.monotonic()


def run_cell(folder: Path) -> None:
    """Train what `cell.json` in the folder says, and leave `result.json`."""
    spec = read_json(folder / "cell.json")
    if spec is None:
        raise InputError(f"{folder} holds no cell.json")
    experiment = parse(spec["experiment"])
    import_modules(experiment)
    entry = next(model for model in experiment.rows if model.label == spec["model"])
    seed = int(spec["seed"])
    place = Place(bool(spec["cuda"]), int(spec["threads"]), seed + entry.seeds_from)
    torch.set_num_threads(place.threads)
    if place.cuda:
        torch.cuda.init()  # before Ultralytics changes which GPUs are visible
    memory, metric = PeakMemory(place.cuda), experiment.metric
    trained = engine(experiment, entry, spec["data"], place)
    epochs = trained.train(folder, Reporter(folder, memory))
    known = [row for row in epochs if row[metric] == row[metric]]
    if not known or known[-1] is not epochs[-1]:
        state = f"its last {metric} is no number" if epochs else "no epoch was completed"
        raise InputError(f"{state}; give " + ("validation data with every class" if epochs else "more time"))
    best, peak = max(known, key=lambda row: row[metric]), memory.bytes()
    asked = ask(experiment, trained, folder, spec["data"]) if spec["keep"] else Asked()
    last = epochs[-1][metric] if experiment.score == "val" else asked.scores[metric]
    if last != last:
        raise InputError(f"its {metric} on the test split is no number; give test data with every class")
    result = Result(
        label=entry.label, name=entry.name, options=dict(entry.options), seed=seed, metric=metric,
        last=last, best=best[metric], best_epoch=int(best["epoch"]), epochs=[{**row} for row in epochs],
        seconds=epochs[-1]["seconds"], peak_memory=peak, threads=place.threads,
        skipped=[*trained.skipped, *asked.lines], score=experiment.score, coco=asked.coco,
        digests=trained.digests, **environment(place.cuda),
    )  # fmt: skip
    write_json(folder / "result.json", asdict(result))


@dataclass(frozen=True)
class Asked:
    """What came of asking a network about each picture: its scores, COCO's of YOLO, and lines on what went wrong."""

    scores: dict[str, float] = field(default_factory=dict)
    coco: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def ask(experiment: Experiment, trained: Engine, folder: Path, data: str) -> Asked:
    """Keep what a trained network says of each picture that is scored, in `predictions.json`.

    On val, the score is known already: what goes wrong here costs the pictures of the report, and no cell.
    """
    try:
        scores, content = trained.predict(folder, experiment.score)
        coco = coco_scores(experiment, content, trained.truth(experiment.score))
        write_predictions(folder, experiment, data, content)
    except Exception as error:  # whatever a network or a library raises
        if experiment.score != "val":
            raise
        traceback.print_exc()
        line = line_of(error, 240)
        return Asked(lines=[f"its predictions were not kept: {line}"])
    return Asked(scores, coco)


def work(folder: Path, gpu: str | None, measure: bool) -> None:
    """The whole life of a process: a cell, or the measurement of cost; a failure is one line in `failure.txt`.

    Args:
        folder: Of the cell, or of the experiment where cost is measured.
        gpu: What CUDA_VISIBLE_DEVICES takes, or None for the CPU.
        measure: Measure cost.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    if hasattr(os, "setsid"):
        os.setsid()  # out of reach of the terminal's Ctrl-C, and one group with the processes that read data
    _end_with_parent()
    keep_freed_memory()
    with (folder / "log.txt").open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    try:
        (run_cost if measure else run_cell)(folder)
    except BaseException as error:
        traceback.print_exc()
        kind = "" if isinstance(error, SAID) and str(error) else f"{type(error).__name__}: "
        line = " ".join(f"{kind}{error}".split())[:500]
        write_atomic(folder / "failure.txt", line + "\n")
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process when the command that started it is gone, however it went."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(143)

    threading.Thread(target=watch, daemon=True).start()
