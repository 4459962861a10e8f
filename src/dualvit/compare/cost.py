"""What the models of an experiment cost: their scored weights, in eager and in the runtimes that users deploy.

    a cell's weights --> one ONNX file --> onnxruntime, OpenVINO
                     `-> eager, fused                                all of them once in each round

In each round a runtime has all models one after the other, so that ratios of models are those of the same moment.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dualvit.bench.cost import forward, fuse_for_inference, macs, parameters
from dualvit.bench.results import Latency
from dualvit.bench.rounds import Rounds, Step, in_turn
from dualvit.compare.engine import Engine, engine, import_modules
from dualvit.compare.experiment import Entry, Experiment
from dualvit.compare.reading import parse
from dualvit.compare.results import Cost, Costs, Ends, Timed
from dualvit.deploy.runtimes import EXTRA, TOLERANCE, Array, disagreement, missing, open_runtime, versions
from dualvit.errors import line_of
from dualvit.files import read_json, write_json
from dualvit.provenance import environment

ROUNDS, SECONDS = 50, 60.0  # whichever ends first
MINUTE = 60.0
EAGER = "eager"


class Notes:
    """What was left out or does not agree: a line for each reason, with the models that it holds for."""

    def __init__(self) -> None:
        self.labels: dict[str, list[str]] = {}

    def add(self, reason: str, label: str = "") -> None:
        """Take a reason, of one model or of all."""
        self.labels.setdefault(reason, []).extend([label] if label else [])

    def lines(self) -> list[str]:
        """Return them in the order in which they came up."""
        return [f"{', '.join(labels)}: {reason}" if labels else reason for reason, labels in self.labels.items()]


def is_current(costs: Costs, experiment: Experiment, labels: list[str], cuda: bool) -> bool:
    """Return whether stored costs are of these models and this kind of device, and in all runtimes that are here."""
    wanted = () if cuda else [name for name in experiment.runtimes if missing(name) is None]
    return (
        set(labels) <= set(costs.models)
        and costs.cuda == cuda
        and {EAGER, *wanted} <= set(costs.runtimes)
        and experiment.sustained in (None, costs.sustained)
    )


@dataclass
class Measurement:
    """The models that are about to be measured.

    Attributes:
        experiment: Whose models they are.
        spec: Of `cost-spec.json`: data, classes, cuda, threads, labels.
        notes: What is left out.
        counts: Parameters, multiply-adds, and the cell whose weights run, of each label.
        steps: One pass of each label in each runtime, eager first.
        runtimes: Those besides eager that are installed.
        image: What every pass takes.
        device: Of eager.
    """

    experiment: Experiment
    spec: dict[str, Any]
    notes: Notes = field(default_factory=Notes)
    counts: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    steps: dict[str, dict[str, Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.experiment.image_size
        self.device = torch.device("cuda" if self.spec["cuda"] else "cpu")
        self.image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        self.runtimes = self._installed()
        self.steps = {name: {} for name in (EAGER, *self.runtimes)}

    def _installed(self) -> list[str]:
        """The runtimes, besides eager, that can be measured here."""
        wanted = self.experiment.runtimes
        if wanted and self.device.type == "cuda":
            self.notes.add(f"{' and '.join(wanted)}: on the CPU alone, and these models are measured on a GPU")
            return []
        for name in wanted:
            if (package := missing(name)) is not None:
                self.notes.add(f"{name} was not measured: {package} is not installed; dualvit[{EXTRA}] brings it")
        return [name for name in wanted if missing(name) is None]

    def add(self, entry: Entry) -> None:
        """Take a model: count it, export it, and look at each runtime's answer to one picture."""
        trained = engine(self.experiment, entry, self.spec["data"])
        network, weights = self._scored(trained, entry)
        self.counts[entry.label] = parameters(network), macs(network, self.experiment.image_size), weights
        if self.runtimes:
            self._export(trained, entry, network)
        fuse_for_inference(network)
        self.steps[EAGER][entry.label] = partial(forward, network.to(self.device), self.image.to(self.device))

    def _scored(self, trained: Engine, entry: Entry) -> tuple[nn.Module, str]:
        """The network of the first finished cell with its last weights, and that cell's name; or a fresh one and ""."""
        cells = [self.experiment.output / "cells" / f"{entry.slug}-s{seed}" for seed in self.experiment.seeds]
        cell = next((cell for cell in cells if (cell / "result.json").is_file()), None)
        if cell is not None:
            try:
                return trained.scored(cell, self.spec["classes"]).eval(), cell.name
            except (ValueError, OSError) as error:
                self.notes.add(f"measured with fresh weights: {' '.join(str(error).split())}", entry.label)
        return trained.network(self.spec["classes"]).eval(), ""

    def _export(self, trained: Engine, entry: Entry, network: nn.Module) -> None:
        """Write a model's file, and open it in each runtime; what fails is a note."""
        file = self.experiment.output / "onnx" / f"{entry.slug}.onnx"
        try:
            file.parent.mkdir(exist_ok=True)
            expected = [value.numpy() for value in trained.export(network, self.image, file)]
        except Exception as error:  # whatever an exporter raises for a network that it does not know
            self._left_out(self.runtimes, entry, error)
            return
        for name in self.runtimes:
            try:
                self._open(name, entry, file, expected)
            except Exception as error:  # of a runtime that does not know a node
                self._left_out([name], entry, error)

    def _open(self, name: str, entry: Entry, file: Path, expected: list[Array]) -> None:
        image = self.image.numpy()
        run = open_runtime(name, file, int(self.spec["threads"]))
        far = disagreement(run(image), expected)
        if far == float("inf"):
            self.notes.add(f"{name} answers in other shapes than eager, or with what is no number", entry.label)
        elif far > TOLERANCE:
            self.notes.add(f"{name} is up to {far:.2g} off eager's answer to a picture", entry.label)
        self.steps[name][entry.label] = partial(run, image)

    def _left_out(self, runtimes: list[str], entry: Entry, error: Exception) -> None:
        line = line_of(error, 200)
        self.notes.add(f"not measured in {' and '.join(runtimes)}: {line}", entry.label)

    def costs(self) -> dict[str, Cost]:
        """Time all passes in rounds; return what each model costs."""
        sustained = self.experiment.sustained
        groups = [{f"{name} {label}": step for label, step in group.items()} for name, group in self.steps.items()]
        with torch.inference_mode():
            rounds = in_turn(groups, None if sustained else ROUNDS, sustained or SECONDS)
        costs = {}
        for label, (weights, products, cell) in self.counts.items():
            timed = {
                name: _timed(rounds, f"{name} {label}", sustained) for name in self.steps if label in self.steps[name]
            }
            costs[label] = Cost(weights, products, timed[EAGER].latency, timed, cell)
        return costs


def _timed(rounds: Rounds, step: str, sustained: float | None) -> Timed:
    times = rounds.times[step][:ROUNDS]
    ends = Ends(*rounds.ends(step, MINUTE)) if sustained else None
    return Timed(Latency.of(times), [1e3 * seconds for seconds in times], ends)


def run_cost(folder: Path) -> None:
    """Measure all models of `cost-spec.json` in one run, and leave `cost.json`."""
    spec = read_json(folder / "cost-spec.json") or {}
    experiment = parse(spec["experiment"])
    import_modules(experiment)
    cuda, threads = bool(spec["cuda"]), int(spec["threads"])
    torch.set_num_threads(threads)
    measured = Measurement(experiment, spec)
    for entry in experiment.rows:
        if entry.label in spec["labels"]:
            measured.add(entry)
    torch.set_num_threads(threads)  # an exporter may have changed it
    costs, about = measured.costs(), environment(cuda)
    about["versions"] |= versions(measured.runtimes)
    whole = Costs(
        models=costs, threads=threads, cuda=cuda, runtimes=list(measured.steps), notes=measured.notes.lines(),
        sustained=experiment.sustained, **about,
    )  # fmt: skip
    write_json(folder / "cost.json", asdict(whole))
