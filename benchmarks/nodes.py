"""Where exported networks spend their time: by kind of node, in onnxruntime and OpenVINO, side by side.

    python benchmarks/nodes.py yolov8n-dualvit.yaml yolov8n.yaml --image-size 640 --threads 2
    python benchmarks/nodes.py dualvit_n resnet18 --image-size 224 --runtimes onnxruntime

Weights are fresh, files are exported as users export them, and the latency beside the kinds is taken without a
profiler, the models in turn. Kinds are those of each runtime after its own fusion: OpenVINO's Subgraph is a chain of
element-wise nodes in one kernel, and its FullyConnected a MatMul with constant weights.
"""

import argparse
import logging
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dualvit.bench.networks import bench_network
from dualvit.bench.nodes import Kind, kinds
from dualvit.bench.results import Latency
from dualvit.bench.rounds import in_turn
from dualvit.deploy.runtimes import NEEDS, Array, export_onnx, open_runtime, versions
from dualvit.files import write_json
from dualvit.provenance import environment

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "nodes.json"
CLASSES = 80
SMALL = 0.005  # of a model's time; kinds below it in all models share a line
Found = dict[str, dict[str, Kind]]  # by model and kind


def export(name: str, size: int, file: Path) -> None:
    """Write a network with fresh weights: an Ultralytics YAML by Ultralytics' exporter, a timm name by torch's."""
    image = torch.rand(1, 3, size, size)
    torch.manual_seed(0)
    if not name.endswith((".yaml", ".yml")):
        export_onnx(bench_network(name, size, features=False).eval(), image, file)
        return
    from dualvit.yolo import YOLO
    from dualvit.yolo.engine import YoloEngine

    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    engine = YoloEngine(name, {}, str(YOLO(name).task), {})
    engine.export(engine.network(CLASSES).eval(), image, file)


def table(runtime: str, found: Found, latency: dict[str, Latency], ratios: dict[str, str]) -> Table:
    """The kinds of all models in one runtime, the dearest of the first model first."""
    totals = {model: sum(kind.milliseconds for kind in own.values()) for model, own in found.items()}
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    none = Kind(0.0, 0)

    def large(name: str) -> bool:
        return any(own.get(name, none).milliseconds >= SMALL * totals[model] for model, own in found.items())

    rows = {name: [own.get(name, none) for own in found.values()] for name in names if large(name)}
    rest = [[kind for name, kind in own.items() if not large(name)] for own in found.values()]
    rows["others"] = [Kind(sum(k.milliseconds for k in some), sum(k.nodes for k in some)) for some in rest]
    rows["all"] = [
        Kind(total, sum(kind.nodes for kind in own.values()))
        for own, total in zip(found.values(), totals.values(), strict=True)
    ]
    drawn = Table(title=f"{runtime}: ms (nodes)", box=None, header_style="bold", title_justify="left")
    drawn.add_column("kind")
    for model in found:
        drawn.add_column(model, justify="right")
    for name, some in rows.items():
        drawn.add_row(name, *(f"{kind.milliseconds:.2f} ({kind.nodes})" if kind.nodes else "" for kind in some))
    drawn.add_row("latency", *(str(one) for one in latency.values()))
    drawn.add_row("of the last model", *ratios.values())
    return drawn


def measure(runtime: str, files: dict[str, Path], image: Array, args: argparse.Namespace) -> tuple[Table, Any]:
    """Profile all models in one runtime, after their latency in turn; return the table, and what JSON keeps."""
    passes = {model: partial(open_runtime(runtime, file, args.threads), image) for model, file in files.items()}
    rounds = in_turn([passes], args.passes, args.seconds)
    last = list(files)[-1]
    latency = {model: Latency.of(times) for model, times in rounds.times.items()}
    ratios = {model: rounds.ratio(model, last) for model in files}
    found = kinds(runtime, files, image, args.threads, args.passes)
    kept = {
        model: {
            "latency": asdict(latency[model]), "ratio": asdict(ratios[model]),
            "kinds": {name: asdict(kind) for name, kind in found[model].items()},
        }
        for model in files
    }  # fmt: skip
    return table(runtime, found, latency, {model: str(ratio) for model, ratio in ratios.items()}), kept


def main() -> None:
    """Export, profile, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Ultralytics YAMLs or timm names; ratios are to the last one")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--passes", type=int, default=20, help="of each model, without and with the profiler")
    parser.add_argument("--seconds", type=float, default=60.0, help="the most for the latency in each runtime")
    parser.add_argument("--runtimes", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    size = args.image_size
    image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    whole: dict[str, Any] = {"image_size": size, "threads": args.threads, "passes": args.passes, **environment(False)}
    whole["versions"] |= versions(args.runtimes)
    with tempfile.TemporaryDirectory() as folder:
        files = {model: Path(folder) / f"{number}.onnx" for number, model in enumerate(args.models)}
        for model, file in files.items():
            export(model, size, file)
        for runtime in args.runtimes:
            drawn, whole[runtime] = measure(runtime, files, image, args)
            Console(width=120).print(drawn)
    write_json(args.out, whole)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
