"""The speed goals, each as a ratio measured in one run, models in turn.

    python benchmarks/speed.py                  # all, a quarter of an hour on two cores
    python benchmarks/speed.py share training   # some of them

Rows go to docs/results/speed.json, with hardware and versions; a goal measured again replaces its row.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dualvit.nn.attention import CrossAttention
from dualvit.nn.onednn import pack

from dualvit.allocator import keep_freed_memory
from dualvit.bench.bench import bench, training_step
from dualvit.bench.cost import fuse_for_inference, latencies
from dualvit.bench.networks import bench_network
from dualvit.bench.results import BenchSettings, Measurement
from dualvit.models import create_model
from dualvit.provenance import environment
from dualvit.yolo.engine import network

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed.json"
RIVALS = ("swin_tiny_patch4_window7_224", "pvt_v2_b2", "twins_svt_small", "volo_d1_224")
LINEAR = "dualvit_s:semantic_grid=8x8:key_grid=14x14"


def rows(settings: BenchSettings) -> tuple[dict[tuple[str, int, str], Measurement], dict[str, Any]]:
    """A bench's measurements by model, size and dtype, and all of its result."""
    result = bench(settings, detector=lambda name, options: network(name, options, "detect", 80))
    for one in result.measurements:
        if one.failure:
            raise SystemExit(str(one))
    return {(one.model, one.image_size, one.dtype): one for one in result.measurements}, result.to_json()


def median(one: Measurement) -> float:
    """Milliseconds."""
    assert one.latency is not None
    return one.latency.median


def share() -> tuple[dict[str, float], dict[str, Any]]:
    """Share of the matrix-product rate: S at 224, batch 8, eager after fuse, and timm's transformers beside it."""
    found, whole = rows(BenchSettings(("dualvit_s", *RIVALS), batch=8, fuse=True, rounds=25, seconds=400))
    shares = {model: row.share for (model, _, _), row in found.items()}
    return {"share": shares["dualvit_s"], "best rival": max(shares[name] for name in RIVALS), **shares}, whole


def low_precision() -> tuple[dict[str, float], dict[str, Any]]:
    """Speed of other number formats over float32, S at 224, batch 8 and a single image, and their errors."""
    out: dict[str, float] = {}
    whole: dict[str, Any] = {}
    dtypes = ("float32", "bfloat16", "bf16-autocast", "int8")
    for batch, name in ((8, "batch 8"), (1, "one image")):
        found, whole[name] = rows(BenchSettings(("dualvit_s",), batch=batch, dtypes=dtypes, fuse=True, rounds=15))
        base = median(found["dualvit_s", 224, "float32"])
        for dtype in dtypes[1:]:
            row = found["dualvit_s", 224, dtype]
            out |= {f"{dtype} speed-up, {name}": base / median(row), f"{dtype} error": row.error}
    return out, whole


def packing() -> tuple[dict[str, float], dict[str, Any]]:
    """Latency with Linears packed over plain ones, 224, batch 8: of S after fuse, and of a rival."""
    networks: dict[str, Any] = {}
    for name in ("dualvit_s", "volo_d1_224"):
        network = bench_network(name, 224, features=False).eval()
        fuse_for_inference(network)
        networks[f"{name} plain"] = copy.deepcopy(network)  # copies are plain
        for part in network.modules():
            pack(part)
        networks[name] = network
    times = {name: statistics.median(found) for name, found in latencies(networks, 224, repeats=20, batch=8).items()}
    ratios = {name: times[name] / times[f"{name} plain"] for name in ("dualvit_s", "volo_d1_224")}
    return ratios, {"seconds": times, **environment(False)}


def per_mac() -> tuple[dict[str, float], dict[str, Any]]:
    """Time a multiply-add, features of S in the paper's form: 640 over 224."""
    found, whole = rows(BenchSettings(("dualvit_s",), image_size=(224, 640), features=True, rounds=10))
    cost = {size: median(row) / row.macs for (_, size, _), row in found.items()}
    return {"640 over 224": cost[640] / cost[224]}, whole


def linear() -> tuple[dict[str, float], dict[str, Any]]:
    """Features of S at 1280: the paper's form over the linear one, in time and in memory."""
    found, whole = rows(BenchSettings(("dualvit_s", LINEAR), image_size=(1280,), features=True, rounds=3, seconds=200))
    paper, fast = found["dualvit_s", 1280, "float32"], found[LINEAR, 1280, "float32"]
    return {
        "speed-up": median(paper) / median(fast),
        "paper's peak GB": paper.peak_memory / 1e9,
        "linear peak GB": fast.peak_memory / 1e9,
    }, whole


def yolo() -> tuple[dict[str, float], dict[str, Any]]:
    """Latency of yolov8n-dualvit over yolov8n's, 640, both fused."""
    found, whole = rows(
        BenchSettings(("yolov8n-dualvit.yaml", "yolov8n.yaml"), image_size=(640,), fuse=True, rounds=30)
    )
    ours, stock = (median(row) for row in found.values())
    return {"latency over yolov8n": ours / stock}, whole


def training() -> tuple[dict[str, float], dict[str, Any]]:
    """Share of the matrix-product rate of a training step: S at 224, batch 16."""
    found, whole = rows(BenchSettings(("dualvit_s",), batch=16, train=True, rounds=4))
    return {"share": found["dualvit_s", 224, "float32"].share}, whole


def checkpointing() -> tuple[dict[str, float], dict[str, Any]]:
    """What recomputing costs and saves: a training step of S, 224, batch 8, over the one that keeps everything."""
    plans = {"all": True, "stages 0, 1": (0, 1), "stage 0": (0,), "none": False}
    times: dict[str, float] = {}
    saved: dict[str, float] = {}
    whole: dict[str, Any] = {}
    for name, stages in plans.items():
        found, whole[name] = rows(
            BenchSettings(("dualvit_s",), batch=8, train=True, grad_checkpointing=stages, rounds=6)
        )
        row = found["dualvit_s", 224, "float32"]
        times[name], saved[name] = 1 / row.share, row.saved  # over the machine's own rate, since runs are apart
    out = {f"time, {name}": times[name] / times["none"] for name in plans}
    return out | {f"MB an image, {name}": saved[name] / 2**20 for name in plans}, whole


def channels_last() -> tuple[dict[str, float], dict[str, Any]]:
    """A training step of YOLO with kernels channels last over plain ones: 320, batch 8, both in turn."""
    image = torch.randn(8, 3, 320, 320)
    seconds: dict[str, float] = {}
    names = ("yolov8n-dualvit.yaml", "yolov8n.yaml")
    for name in names:
        plain = network(name, {}, "detect", 80).train()
        last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
        steps = {
            layout: training_step(model, image, "float32", False) for layout, model in (("", plain), (" last", last))
        }
        times: dict[str, list[float]] = {layout: [] for layout in steps}
        for index in range(12):
            for layout, step in steps.items():
                before = time.perf_counter()
                step()
                if index > 1:
                    times[layout].append(time.perf_counter() - before)
        seconds |= {name + layout: statistics.median(found) for layout, found in times.items()}
    return {name: seconds[f"{name} last"] / seconds[name] for name in names}, {"seconds": seconds, **environment(False)}


def few() -> tuple[dict[str, float], dict[str, Any]]:
    """Features at 640 with the products of attention in the order for few semantics, over the plain order."""
    networks = {}
    for name in ("dualvit_n", "dualvit_t"):
        networks[name] = create_model(name, features_only=True)
        networks[f"{name} plain"] = plain = create_model(name, features_only=True)
        for module in plain.modules():
            if isinstance(module, CrossAttention):
                module.few = ""
    times = {name: statistics.median(seconds) for name, seconds in latencies(networks, 640, repeats=30).items()}
    ratios = {name: times[name] / times[f"{name} plain"] for name in ("dualvit_n", "dualvit_t")}
    return ratios, {"seconds": times, **environment(False)}


def gpu() -> tuple[dict[str, float], dict[str, Any]]:
    """The same shares on a GPU: bf16, compiled, batch 128, inference and training, with timm's beside them."""
    models = ("dualvit_s", "swin_tiny_patch4_window7_224", "pvt_v2_b2")
    out: dict[str, float] = {}
    whole: dict[str, Any] = {}
    for train in (False, True):
        plan = BenchSettings(models, batch=128, dtypes=("bf16-autocast",), device="cuda", train=train, compile=True)
        found, whole = rows(plan)
        word = "training" if train else "inference"
        out |= {f"{word} {model}": row.share for (model, _, _), row in found.items()}
    return out, whole


GOALS: dict[str, tuple[Callable[[], tuple[dict[str, float], dict[str, Any]]], str]] = {
    "share": (share, "share at least 0.75, and above the best rival"),
    "low_precision": (low_precision, "bfloat16 at least 1.8 times as fast, error within 0.02"),
    "packing": (packing, "below 1"),
    "per_mac": (per_mac, "at most 1.2"),
    "linear": (linear, "speed-up at least 4, the paper's form under 1.5 GB"),
    "yolo": (yolo, "at most 1.3"),
    "training": (training, "at least 0.6"),
    "checkpointing": (checkpointing, "no goal"),
    "channels_last": (channels_last, "below 1"),
    "few": (few, "below 1"),
    "gpu": (gpu, "inference at least 0.40, training 0.35, and above both rivals"),
}


def main() -> None:
    """Measure the goals that are named, and keep their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goals", nargs="*", choices=[*GOALS, []], help="which; all where left out")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    keep_freed_memory()
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.goals or GOALS:
        if name == "gpu" and not torch.cuda.is_available():
            print("gpu: no GPU here, not measured")
            continue
        measure, goal = GOALS[name]
        ratios, whole = measure()
        kept[name] = {"goal": goal, "measured": ratios, "details": whole}
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in ratios.items()) + f"   (goal: {goal})")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(kept, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
