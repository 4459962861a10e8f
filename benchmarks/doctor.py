"""What the doctor's ranking is worth: wrong boxes that are planted, found by a model that was trained on them.

    python benchmarks/doctor.py datasets/nuclei/data.yaml

A tenth of the training boxes is made wrong: a third of these is moved by about its own side, a third goes anywhere in
the picture, a third gets half or twice its sides. None of them overlaps its old self by an IoU of 0.5. yolov8n-dualvit
learns from each half of the pictures, wrong boxes and all, and ranks the labels of the other half. The table says how
many of the planted boxes are among the first labels, and what kinds they are.

Then the labels that come first, a tenth of all, are put right where they are wrong, as a person would who looks at
them. With `--seeds`, models learn from the clean labels, from the noisy ones and from the mended ones, and are scored
on the validation pictures. All of it is in OUT, and the same command goes on where it stopped.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dualvit.data.yolo_layout import read_pairs
from dualvit.doctor.doubts import Seen, ranked_boxes
from dualvit.doctor.labels import in_pixels, ious
from dualvit.doctor.looks import look
from dualvit.doctor.sets import Item
from dualvit.doctor.yolo_set import read_yolo_set
from dualvit.files import read_json, write_json
from dualvit.provenance import environment

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
KINDS = ("moved", "elsewhere", "resized")
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
Box = np.ndarray[Any, Any]


def wrong(box: Box, kind: str, rng: random.Random) -> Box:
    """Return a wrong box in place of a right one; both are centre, width and height as shares of the sides."""
    for trial in count():
        kind = kind if trial < 20 else "elsewhere"  # beside an edge, or of a pixel, not every kind can be made
        x, y, width, height = box.tolist()
        if kind == "moved":
            x += rng.choice((-1, 1)) * rng.uniform(0.5, 1.2) * width
            y += rng.choice((-1, 1)) * rng.uniform(0.5, 1.2) * height
        elif kind == "elsewhere":
            x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
        else:
            factor = rng.choice((0.5, 2.0))
            width, height = width * factor, height * factor
        corners = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 1)
        new = np.concatenate([(corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]])
        if (new[2:] > box[2:] / 3).all() and ious(edges(new[None]), edges(box[None]))[0, 0] < 0.5:
            return new
    raise AssertionError


def edges(boxes: Box) -> Box:
    """Return x1, y1, x2, y2 of centres and sizes."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def boxes_of(label: Path) -> list[tuple[int, Box]]:
    """Return the class and the box of each line of a label file, polygons as their boxes."""
    rows = []
    for line in label.read_text().splitlines():
        number, *values = line.split()
        points = np.array(values, float)
        if len(points) > 4:
            low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
            points = np.concatenate([(low + high) / 2, high - low])
        rows.append((int(number), points))
    return rows


def write_labels(file: Path, rows: list[tuple[int, Box]]) -> None:
    """Write a label file of boxes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{number} {' '.join(f'{v:.6f}' for v in box)}\n" for number, box in rows))


def plant(data: Path, out: Path, share: float, seed: int) -> dict[str, dict[str, str]]:
    """Write `clean` and `noisy`, and two halves of the noisy one; return each picture's wrong lines and their kinds."""
    planted, rng = {}, random.Random(seed)
    names = read_pairs(data, "train")[0]
    for split in ("train", "val"):
        for picture, label in read_pairs(data, split)[1]:
            rows, kinds = boxes_of(label), {}
            noisy = list(rows)
            for index, (number, box) in enumerate(rows):
                if split == "train" and rng.random() < share:
                    kinds[str(index)] = rng.choice(KINDS)
                    noisy[index] = number, wrong(box, kinds[str(index)], rng)
            for name, lines in (("clean", rows), ("noisy", noisy), ("mended", rows)):
                place = out / name / "images" / split / picture.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, place)
                write_labels(out / name / "labels" / split / f"{picture.stem}.txt", lines)
            if split == "train":
                planted[picture.stem] = kinds
    for name in ("clean", "noisy", "mended"):
        write_yaml(out / name / "data.yaml", out / name, names, "images/train", "images/val")
    files = sorted(file.resolve() for file in (out / "noisy/images/train").iterdir())
    rng.shuffle(files)
    for fold in (0, 1):
        (out / "noisy" / f"half{fold}.txt").write_text("\n".join(map(str, files[fold::2])) + "\n")
    for fold in (0, 1):
        write_yaml(out / "noisy" / f"fold{fold}.yaml", out / "noisy", names, f"half{fold}.txt", f"half{1 - fold}.txt")
    write_json(out / "planted.json", planted)
    return planted


def write_yaml(file: Path, root: Path, names: tuple[str, ...], train: str, val: str) -> None:
    """Write a data.yaml."""
    content = {"path": str(root.resolve()), "train": train, "val": val, "names": dict(enumerate(names))}
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def train(args: argparse.Namespace, data: Path, name: str, seed: int) -> Path:
    """Train, unless it is done; return the folder of the run."""
    folder = (args.out / "runs" / name).resolve()
    if not (folder / "done").exists():
        settings = {
            "model": "yolov8n-dualvit.yaml", "data": data, "epochs": args.epochs, "imgsz": args.image_size,
            "seed": seed, "batch": args.batch, "workers": 0, "plots": False, "val": False, "project": folder.parent,
            "name": name, "exist_ok": True, "cache": True, "verbose": False, "device": args.device,
        }  # fmt: skip
        settings |= {"weights": args.weights.resolve()} if args.weights else {}
        words = [f"{key}={value}" for key, value in settings.items()]
        with (args.out / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", "dualvit", "yolo", "detect", "train", *words]
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
        (folder / "done").touch()
    return folder


def ask(args: argparse.Namespace, fold: int) -> list[tuple[Item, Seen]]:
    """Return what the model of one half sees in the pictures of the other, kept in a file."""
    from dualvit.yolo.witness import YoloWitness

    kept = args.out / f"seen{fold}.npz"
    items = read_yolo_set(args.out / "noisy" / f"fold{fold}.yaml").of("val")
    if not kept.exists():
        folder = train(args, args.out / "noisy" / f"fold{fold}.yaml", f"fold{fold}", 0)
        witness = YoloWitness(folder / "weights/last.pt", args.image_size, 0.001, 1000)
        content = {}
        for item in items:
            for name, array in zip(("boxes", "labels", "scores"), witness.objects(item.file), strict=True):
                content[f"{item.file.stem} {name}"] = array
        np.savez(kept, **content)
    arrays = np.load(kept)
    for item in items:
        found = look(item.file)
        in_pixels(item, found.width, found.height)
    names = ("boxes", "labels", "scores")
    return [(item, Seen(*(arrays[f"{item.file.stem} {name}"] for name in names))) for item in items]


def ranking(args: argparse.Namespace, planted: dict[str, dict[str, str]]) -> tuple[dict[str, Any], list[Any]]:
    """Return how many planted boxes come first, and the ranked labels as (picture, line, kind of fault or none)."""
    asked = [pair for fold in (0, 1) for pair in ask(args, fold)]
    boxes = [np.array([one.box for one in item.things]).reshape(-1, 4) for item, _ in asked]
    labels = [np.array([one.label for one in item.things], int) for item, _ in asked]
    doubts, _ = ranked_boxes(boxes, labels, [seen for _, seen in asked])
    rows = []
    for one in doubts:
        item = asked[one.picture][0]
        line = int(item.things[one.label or 0].place.split()[1]) - 1
        rows.append((item.file.stem, line, planted[item.file.stem].get(str(line))))
    total = sum(kind is not None for *_, kind in rows)
    found = {}
    for share in SHARES:
        first = [kind for *_, kind in rows[: round(share * len(rows))] if kind is not None]
        found[f"{share:.0%}"] = {"found": len(first) / total, "kinds": dict(Counter(first))}
    kinds = dict(Counter(kind for *_, kind in rows if kind is not None))
    return {"labels": len(rows), "planted": total, "kinds": kinds, "first": found}, rows


def mend(args: argparse.Namespace, rows: list[Any], share: float) -> int:
    """Put the wrong boxes among the first labels right, in `mended`; return how many."""
    first = {(stem, line) for stem, line, kind in rows[: round(share * len(rows))] if kind is not None}
    for noisy in (args.out / "noisy/labels/train").glob("*.txt"):
        right = boxes_of(args.out / "clean/labels/train" / noisy.name)
        mended = [
            right[line] if (noisy.stem, line) in first else row for line, row in enumerate(boxes_of(noisy))
        ]  # fmt: skip
        write_labels(args.out / "mended/labels/train" / noisy.name, mended)
    return len(first)


def score(args: argparse.Namespace, name: str, seed: int) -> float:
    """Return the mAP50-95 on the clean validation pictures of a model that learnt from one of the sets."""
    from dualvit.yolo import YOLO

    folder = train(args, args.out / name / "data.yaml", f"{name}-{seed}", seed)
    kept = folder / "score.json"
    if (known := read_json(kept)) is None:
        model = YOLO(folder / "weights/last.pt")
        result = model.val(data=str(args.out / "clean/data.yaml"), imgsz=args.image_size, plots=False, verbose=False)
        known = {"mAP50-95": float(result.box.map)}
        write_json(kept, known)
    return float(known["mAP50-95"])


def main() -> None:
    """Plant, rank, mend, and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data.yaml with boxes or polygons")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor-bench"))
    parser.add_argument("--share", type=float, default=0.1, help="of the training boxes that are made wrong")
    parser.add_argument("--planting", type=int, default=0, help="seed of which boxes are made wrong, and how")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="what the backbones begin with, such as of `dualvit pretrain`")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="of the models that are scored, such as 0 1 2")
    parser.add_argument("--name", default="nuclei", help="the result is docs/results/doctor-NAME.json")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    planted = read_json(args.out / "planted.json") or plant(args.data, args.out, args.share, args.planting)
    found, rows = ranking(args, planted)
    result = {
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "out")}
        | {"weights": args.weights and args.weights.name},
        "ranking": found,
    }
    print(json.dumps(found, indent=1), flush=True)
    if args.seeds:
        found["mended"] = mend(args, rows, args.share)
        for name in ("clean", "noisy", "mended"):
            scores = [score(args, name, seed) for seed in args.seeds]
            spread = statistics.stdev(scores) if len(scores) > 1 else None
            result[name] = {"mAP50-95": statistics.fmean(scores), "spread": spread, "seeds": scores}
            print(name, result[name], flush=True)
    result["environment"] = environment(args.device != "cpu")
    write_json(RESULTS / f"doctor-{args.name}.json", result)


if __name__ == "__main__":
    main()
