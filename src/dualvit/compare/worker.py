"""What runs in a process of its own: a cell of an experiment, or the measurement of what all models cost."""

import multiprocessing
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dualvit.allocator import keep_freed_memory
from dualvit.bench.cost import PeakMemory, fuse_for_inference, latencies, macs, parameters
from dualvit.bench.results import Latency
from dualvit.compare.build import build, import_modules
from dualvit.compare.experiment import Entry, Experiment, parse
from dualvit.compare.results import Progress, read
from dualvit.compare.settings import ClassifyRecipe, DetectRecipe
from dualvit.files import read_json, write_atomic, write_json
from dualvit.finite import NonFiniteLossError
from dualvit.provenance import environment

REPORT_EVERY = 0.5  # seconds
MAX_WORKERS = 8
SAID = (ValueError, OSError, NonFiniteLossError, ModuleNotFoundError)  # they say by themselves what is wrong


class Reporter:
    """Writes what a training reports to `progress.json`: each epoch, and between them now and then."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "progress.json"
        self.state: dict[str, Any] = read(Progress, self.path) or {"epochs": [], "progress": 0.0, "seconds": 0.0}
        self.written = 0.0

    def __call__(self, news: dict[str, Any]) -> None:
        urgent = news.pop("epoch_end", False)
        self.state |= news
        if urgent or time.monotonic() - self.written > REPORT_EVERY:
            write_json(self.path, self.state)
            self.written = time.monotonic()


def run_cell(folder: Path) -> None:
    """Train what `cell.json` in the folder says, and leave `result.json`."""
    spec = read_json(folder / "cell.json")
    if spec is None:
        raise ValueError(f"{folder} holds no cell.json")
    experiment = parse(spec["experiment"])
    import_modules(experiment)
    entry = next(model for model in experiment.models if model.label == spec["model"])
    threads, cuda, seed = int(spec["threads"]), bool(spec["cuda"]), int(spec["seed"])
    torch.set_num_threads(threads)
    if cuda:
        torch.cuda.init()  # before Ultralytics changes which GPUs are visible
    memory = PeakMemory(cuda)
    task = _classify if experiment.task == "classify" else _detect
    epochs = task(folder, experiment, entry, spec, Reporter(folder), memory)
    if not epochs:
        raise ValueError("no epoch was completed; give more time")
    metric = experiment.metric
    best = max(epochs, key=lambda row: row[metric])
    result = {
        "label": entry.label, "name": entry.name, "options": dict(entry.options), "seed": seed, "metric": metric,
        "last": epochs[-1][metric], "best": best[metric], "best_epoch": best["epoch"], "epochs": epochs,
        "seconds": epochs[-1]["seconds"], "peak_memory": memory.bytes(),
        "threads": threads, **environment(cuda),
    }  # fmt: skip
    write_json(folder / "result.json", result)


def _classify(
    folder: Path, experiment: Experiment, entry: Entry, spec: dict[str, Any], report: Reporter, memory: PeakMemory
) -> list[dict[str, float]]:
    import lightning

    from dualvit.compare import classifier as compared
    from dualvit.data.images import read_folders

    assert isinstance(experiment.recipe, ClassifyRecipe)
    lightning.seed_everything(spec["seed"], verbose=False)
    model = build(experiment, entry, spec["classes"])
    workers = experiment.workers if experiment.workers is not None else spec["threads"] if spec["cuda"] else 0
    data = compared.loaders(
        read_folders(spec["data"]), experiment.recipe, experiment.image_size, experiment.batch,
        min(workers, MAX_WORKERS), spec["seed"],
    )  # fmt: skip
    seconds = None if experiment.minutes is None else 60 * experiment.minutes
    budget = compared.Budget(experiment.epochs, seconds)
    return compared.train(
        folder / "weights", model, data, experiment.recipe, budget, spec["seed"], spec["cuda"], report, memory.start
    )


def _detect(
    folder: Path, experiment: Experiment, entry: Entry, spec: dict[str, Any], report: Reporter, memory: PeakMemory
) -> list[dict[str, float]]:
    from dualvit.yolo import engine as cell

    assert isinstance(experiment.recipe, DetectRecipe)
    workers = spec["threads"] if experiment.workers is None else experiment.workers
    arguments = {
        "imgsz": experiment.image_size, "batch": experiment.batch, "seed": spec["seed"],
        "device": "0" if spec["cuda"] else "cpu", "workers": min(workers, MAX_WORKERS),
    }  # fmt: skip
    seconds = None if experiment.minutes is None else 60 * experiment.minutes
    return cell.train(
        folder, (entry.name, entry.options), experiment.task, spec["data"], experiment.recipe, arguments,
        experiment.epochs, seconds, spec["threads"], report, memory.start,
    )  # fmt: skip


def run_cost(folder: Path) -> None:
    """Measure all models of `cost-spec.json` in one run, and leave `cost.json`."""
    spec = read_json(folder / "cost-spec.json") or {}
    experiment = parse(spec["experiment"])
    import_modules(experiment)
    cuda = bool(spec["cuda"])
    threads = int(spec["threads"])
    torch.set_num_threads(threads)
    models, counts = {}, {}
    for entry in experiment.models:
        if entry.label not in spec["labels"]:
            continue
        model = build(experiment, entry, spec["classes"]).eval()
        counts[entry.label] = {"parameters": parameters(model), "macs": macs(model, experiment.image_size)}
        fuse_for_inference(model)
        models[entry.label] = model.to("cuda" if cuda else "cpu")
    times = latencies(models, experiment.image_size)
    rows = {label: {**counts[label], "latency": asdict(Latency.of(seconds))} for label, seconds in times.items()}
    write_json(folder / "cost.json", {"models": rows, "threads": threads, "cuda": cuda, **environment(cuda)})


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
