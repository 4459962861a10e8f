"""Mutated files at every reader that opens files from elsewhere, for a given time; what goes wrong is kept and listed.

    python benchmarks/fuzz.py bundles --minutes 10
    python benchmarks/fuzz.py checkpoints|states|label-maps|results --minutes 10 --seed 1

Each file must be read or refused in one line. Anything else is a finding: another exception, more than TOO_LONG
seconds, a NaN that is accepted, a process, a connection. It is kept in `--out`, and the exit status is 1.
"""

import argparse
import copy
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dualvit.weights import CheckpointError, to_safetensors

TOO_LONG = 20  # seconds
TOUCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"}
VALUES = [
    None, True, False, 0, 1, -1, 2, 10**9, -(10**9), 10**40, 0.5, float("nan"), float("inf"), "", "a", "..", "nc",
    "/etc/passwd", "http://dualvit.invalid/x", "pipe:touch canary", "hf-hub:a/b", "__import__('os').system('true')",
    "nn.SiLU()", [], [[]], [1, 2, 3], [None] * 2000, {}, {"a": 1}, {"url": "http://x"}, "x" * 5000, "\x1b[2J",
]  # fmt: skip
touched: list[str] = []


def main() -> None:
    """Fuzz one kind of file until time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(KINDS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, end = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        cases = KINDS[options.what](rng, Path(folder))
        sys.addaudithook(lambda event, _: touched.append(event) if event in TOUCHED else None)
        signal.signal(signal.SIGALRM, _late)
        for number, (file, read) in enumerate(cases):
            if time.monotonic() > end:
                break
            found = _outcome(file, read)
            outcomes[found.partition(":")[0]] += 1
            if found not in ("read", "refused"):
                options.out.mkdir(parents=True, exist_ok=True)
                kept = options.out / f"{options.what}-{options.seed}-{number}{file.suffix}"
                kept.write_bytes(file.read_bytes())
                print(f"{kept}: {found}", flush=True)
    print(f"{options.what}, seed {options.seed}: {dict(outcomes)}")
    sys.exit(bool(set(outcomes) - {"read", "refused"}))


class LateError(BaseException):
    """A file took too long."""


def _late(*_: Any) -> None:
    raise LateError


def _outcome(file: Path, read: Callable[[], bool]) -> str:
    """What came of a file: read, refused, or a finding in words."""
    touched.clear()
    signal.alarm(TOO_LONG)
    try:
        found = "read" if read() else "accepted NaN"
    except (CheckpointError, ValueError, FileNotFoundError) as error:
        text = str(error)
        named = (file.name in text or str(file.parent) in text) and "\n" not in text and len(text) < 1000
        found = "refused" if named else f"unclear: {type(error).__name__}: {text[:200]}"
    except LateError:
        found = f"took over {TOO_LONG} s"
    except BaseException as error:
        found = f"bare {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
    return f"touched {sorted(set(touched))}" if touched else found


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of nested values with one to three places changed, left out, doubled or put elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        act = rng.random()
        if act < 0.6:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif act < 0.75:
            del holder[key]
        elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * rng.choice([-1, 0, 2, 7, 1000, 0.1])
        else:
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key] = copy.deepcopy(other[place])
    return value


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if depth > 8:
        return
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        yield value, key
        yield from _places(item, depth + 1)


def changed(tensor: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A tensor with another value, shape or dtype."""
    act = rng.randrange(6)
    if act == 0 and tensor.is_floating_point() and tensor.numel():
        flat = tensor.clone().flatten()
        flat[rng.randrange(len(flat))] = rng.choice([float("nan"), float("inf"), -float("inf"), 1e30, -1.0])
        return flat.reshape(tensor.shape)
    if act == 1:
        return tensor.to(rng.choice([torch.int8, torch.int64, torch.float64, torch.bool, torch.bfloat16]))
    if act == 2:
        return tensor[:1].clone() if tensor.ndim else tensor[None]
    if act == 3:
        return tensor[None].clone()
    if act == 4:
        return tensor.flatten().clone()
    return torch.zeros(rng.choice([(0,), (1,), (2, 2), (3, 0, 1)]))


def bundles(rng: random.Random, folder: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Metadata and weights of detectors in .safetensors, and flipped bytes of whole files."""
    from dualvit.yolo import YOLO

    starts = []
    for name in (
        "yolov8n-dualvit.yaml",
        "yolov8n.yaml",
        "yolov8n-c2fdual.yaml",
        "yolo11n-seg.yaml",
        "yolov8n-dualvit-pose.yaml",
    ):
        path = YOLO(name).save_weights(folder / "whole.safetensors")
        with safe_open(path, "pt") as file:
            starts.append((file.metadata(), {key: file.get_tensor(key) for key in file.keys()}, path.read_bytes()))  # noqa: SIM118
    target = folder / "mutated.safetensors"
    while True:
        metadata, weights, whole = rng.choice(starts)
        act = rng.random()
        if act < 0.1:
            data = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(min(len(data), 40_000))] = rng.randrange(256)
            target.write_bytes(bytes(data))
        else:
            metadata, weights = dict(metadata), dict(weights)
            if act < 0.85:
                key = rng.choice(["yaml", "yaml", "yaml", "names"])
                metadata[key] = json.dumps(mutated(json.loads(metadata[key]), rng))
            elif act < 0.9:
                metadata[rng.choice(["yaml", "names", "task"])] = rng.choice(
                    ["", "{", "null", "3", "[" * 5000, "classify"]
                )
            else:
                name = rng.choice(list(weights))
                weights[name] = changed(weights[name], rng).contiguous()
            target.write_bytes(to_safetensors(weights, metadata))
        yield target, lambda: _finite(YOLO(target).model.state_dict())


def _finite(state: dict[str, Any]) -> bool:
    return all(
        bool(torch.isfinite(v).all()) for v in state.values() if isinstance(v, torch.Tensor) and v.is_floating_point()
    )


def checkpoints(rng: random.Random, folder: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Checkpoints of recipes, opened as validate, predict, export and eval open them."""
    from dualvit.recipes import run
    from dualvit.recipes.config import load_recipe, plain

    starts = []
    for name in ("laptop-classify", "laptop-detect", "laptop-semantic"):
        network = "test_convnext" if name == "laptop-classify" else "dualvit_n"
        recipe = load_recipe(name, ["data.root=x", f"network.name={network}", "network.options={}"])
        task = run.kind(recipe.task).TaskType(recipe, ("a", "b"))
        held = {"recipe": plain(recipe), "classes": ["a", "b"], "history": [{"epoch": 1, "step": 1, task.metric: 0.5}]}
        held |= {"environment": {"commit": None}, "images": 4}
        starts.append({"dualvit": held, "state_dict": dict(task.state_dict())})
    yield from _archives(rng, folder / "mutated.ckpt", starts, lambda file: _finite(run.load(file).state_dict()))


def states(rng: random.Random, folder: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """What Lightning goes on from, and what a YOLO cell does."""
    from dualvit.recipes.checkpoints import WholeFiles
    from dualvit.yolo.engine import read_state

    weights = {"a": torch.rand(3, 3), "b": torch.zeros(2)}
    kept = {"dirpath": str(folder), "best_model_path": str(folder / "best.ckpt"), "best_k_models": {}}
    of_lightning = {
        "epoch": 1, "global_step": 4, "loops": {"fit_loop": {"epoch_progress": {}}}, "optimizer_states": [{}],
        "callbacks": {"ModelCheckpoint": kept}, "state_dict": weights,
    }  # fmt: skip
    row = {"epoch": 1, "seconds": 1.0, "mAP50": 0.5}
    of_cell = {
        "epoch": 1, "epochs": 3, "updates": 1, "best_fitness": 0.5, "optimizer": {"state": {}}, "stopper": {},
        "model": dict(weights), "ema": dict(weights), "history": [row],
    }  # fmt: skip
    one = _archives(rng, folder / "last.ckpt", [of_lightning], lambda file: bool(WholeFiles().load_checkpoint(file)))
    other = _archives(
        rng, folder / "state.ckpt", [of_cell], lambda file: _finite((read_state(file) or {"ema": {}})["ema"])
    )
    while True:
        yield next(one)
        yield next(other)


def _archives(
    rng: random.Random, target: Path, starts: list[Any], read: Callable[[Path], bool]
) -> Iterator[tuple[Path, Callable[[], bool]]]:
    while True:
        start = rng.choice(starts)
        act = rng.random()
        if act < 0.7:
            weights = {key: value for key, value in start.items() if key == "state_dict"}
            content = mutated({key: value for key, value in start.items() if key not in weights}, rng)
            torch.save(content | weights if isinstance(content, dict) else content, target)
        elif act < 0.85:
            content = copy.deepcopy(start)
            inner = content[rng.choice([key for key in ("state_dict", "ema", "model") if key in content])]
            name = rng.choice(list(inner))
            inner[name] = changed(inner[name], rng) if isinstance(inner[name], torch.Tensor) else rng.choice(VALUES)
            torch.save(content, target)
        else:
            torch.save(start, target)
            data = bytearray(target.read_bytes())
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            target.write_bytes(bytes(data))
        yield target, lambda: read(target)
        for damaged in target.parent.glob("*.damaged"):
            damaged.unlink()


def label_maps(rng: random.Random, folder: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Label maps and their index."""
    from dualvit.data.label_maps import INDEX, LabelMaps, compact, place

    names = ("a", "b", "c")
    picture = folder / "train" / "a" / "1.png"
    index, target = folder / "maps" / INDEX, place(folder / "maps", folder, picture)
    target.parent.mkdir(parents=True)
    about = {"classes": list(names), "teacher": "t", "top": 2, "shape": [2, 3, 3]}
    while True:
        content = compact(torch.rand(3, 3, 3).softmax(0), 2)
        index.write_text(json.dumps(about))
        file = target
        if rng.random() < 0.25:
            file = index
            index.write_text(json.dumps(mutated(about, rng)))
        elif rng.random() < 0.8:
            name = rng.choice(list(content))
            content[name] = changed(content[name], rng).contiguous()
        data = bytearray(to_safetensors(content, {}))
        if file is target and rng.random() < 0.2:
            data[rng.randrange(len(data))] = rng.randrange(256)
        target.write_bytes(bytes(data))

        def read() -> bool:
            scores, classes = LabelMaps(folder / "maps", folder, names).read(picture)
            sound = (
                scores.ndim == 3
                and scores.shape == classes.shape
                and int(classes.max()) < 3
                and int(classes.min()) >= 0
            )
            return sound and bool(torch.isfinite(scores).all())

        yield file, read


def comparison() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what a comparison keeps: a row of an epoch, a result, and costs."""
    machine = {"versions": {"torch": "2"}, "commit": None, "date": "2026-01-01", "hardware": "a CPU", "threads": 1}
    row = {"epoch": 1, "top1": 0.5, "loss": None, "seconds": 1.0}
    result = {
        "label": "a", "name": "resnet18", "options": {}, "seed": 0, "metric": "top1", "last": 0.5, "best": 0.5,
        "best_epoch": 1, "epochs": [row], "seconds": 1.0, "peak_memory": 1, **machine,
    }  # fmt: skip
    latency = {"median": 1.0, "low": 1.0, "high": 1.0, "repeats": 3}
    cost = {"models": {"a": {"parameters": 1, "macs": 2, "latency": latency}}, "cuda": False, **machine}
    return row, result, cost


def results(rng: random.Random, folder: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """JSON files in an experiment's folder, and the report that is made of them."""
    from dualvit.compare.experiment import Entry
    from dualvit.compare.results import Costs, Kept, Progress, read
    from dualvit.compare.runner import Cell

    row, result, cost = comparison()
    kept = {"settings": {"epochs": 1}, "models": {"a": {"name": "resnet18"}}}
    cell = Cell(Entry("resnet18", "a"), 0, folder, "top1")
    starts: list[tuple[str, Any, Callable[[Path], Any]]] = [
        ("result.json", result, lambda _: cell.result()), ("cost.json", cost, lambda file: read(Costs, file)),
        ("experiment.json", kept, lambda file: read(Kept, file)),
        ("progress.json", {"epochs": [row], "progress": 0.5, "seconds": 1.0}, lambda file: read(Progress, file)),
    ]  # fmt: skip
    while True:
        name, start, door = rng.choice(starts)
        text = json.dumps(mutated(start, rng))
        if rng.random() < 0.2:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(["", "\x00", "]", '"', "NaN", "é", "[" * 3000]) + text[at + 1 :]
        file = folder / name
        file.write_text(text)

        def read_it(door: Callable[[Path], Any] = door, file: Path = file) -> bool:
            return door(file) is not None

        yield file, read_it


KINDS = {"bundles": bundles, "checkpoints": checkpoints, "states": states, "label-maps": label_maps, "results": results}

if __name__ == "__main__":
    main()
