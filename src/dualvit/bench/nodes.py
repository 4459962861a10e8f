"""Where the time of an exported network goes: by kind of node, in onnxruntime and in OpenVINO."""

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvit.deploy.runtimes import Array, OnnxRuntime, OpenVino, open_runtime

KERNEL = "_kernel_time"  # how onnxruntime ends the name of an event that is a node's own work


@dataclass(frozen=True)
class Kind:
    """All nodes of one kind in a pass: their milliseconds, and how many they are."""

    milliseconds: float
    nodes: int


Call = tuple[int, str, float]  # the number of a pass, and a node's kind and milliseconds in it


def kinds(
    runtime: str, files: Mapping[str, Path], image: Array, threads: int, passes: int = 10, warmup: int = 3
) -> dict[str, dict[str, Kind]]:
    """Return the time of each kind of node of each network, the dearest first: the median over passes, taken in turn.

    Args:
        runtime: A key of `dualvit.deploy.runtimes.NEEDS`.
        files: ONNX with one input, by name.
        image: What all of them take.
        threads: That a pass works on.
        passes: That count.
        warmup: Passes before.

    Raises:
        ModuleNotFoundError: the runtime is not installed.
        ValueError: it cannot open a file.
    """
    calls: dict[str, list[Call]] = {name: [] for name in files}
    with tempfile.TemporaryDirectory() as folder:  # for onnxruntime's profiles, which go beside the files
        runs: dict[str, Any] = {}
        for index, (name, file) in enumerate(files.items()):
            copy = Path(folder) / f"{index}.onnx"
            copy.write_bytes(file.read_bytes())
            runs[name] = open_runtime(runtime, copy, threads, profile=True)
        for number in range(warmup + passes):
            for name, run in runs.items():
                run(image)
                if isinstance(run, OpenVino):
                    calls[name] += [(number, *node) for node in _counters(run)]
        for name, run in runs.items():
            if isinstance(run, OnnxRuntime):
                calls[name] += _profile(run)
    return {name: _summed(some, warmup, passes) for name, some in calls.items()}


def _summed(calls: Iterable[Call], warmup: int, passes: int) -> dict[str, Kind]:
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(passes)])
    for number, kind, milliseconds in calls:
        if number >= warmup:
            found[kind][number - warmup].append(milliseconds)
    summed = {
        kind: Kind(float(statistics.median(map(sum, of_passes))), max(map(len, of_passes)))
        for kind, of_passes in found.items()
    }
    return dict(sorted(summed.items(), key=lambda item: -item[1].milliseconds))


def _profile(run: OnnxRuntime) -> Iterator[Call]:
    """All passes, by the profiler; nodes that were folded away are not there."""
    seen: Counter[str] = Counter()  # each node comes once a pass
    for event in json.loads(Path(run.session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            about = event["args"]
            node = f"{about['node_index']} {event['name']}"
            yield seen[node], about["op_name"], event["dur"] / 1e3
            seen[node] += 1


def _counters(run: OpenVino) -> Iterator[tuple[str, float]]:
    """The last pass, by the performance counters; `Subgraph` is a chain of element-wise nodes in one kernel."""
    for node in run.request.profiling_info:
        if node.status == node.Status.EXECUTED and node.node_type not in ("Parameter", "Result"):
            yield node.node_type, 1e3 * node.real_time.total_seconds()
