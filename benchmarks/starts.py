"""What a start is worth: rows of one detector from noise, a teacher's maps and ImageNet, each at its own rate.

    python benchmarks/starts.py datasets/raccoon/data.yaml --teacher lite2.safetensors --imagenet lite0.safetensors

The learning rate of each row is chosen on a part of the training pictures (each fifth of them validates), one seed,
at six rates a factor of two apart, and at more while the best one stands at an end. Then each row trains on all
training pictures at its rate with three seeds, and is scored on the validation pictures, which nothing was chosen on.
With `--fractions 10 25 50`, the first two rows train on a share of the labels too, as many steps at the same rate.
The student of the middle row learns from the training pictures without their labels. `--at noise=5e-4` takes a rate
that was found before.

All of it is runs of `dualvit pretrain` and `dualvit compare` in OUT, so the same command goes on where it stopped. The
table goes to docs/results/starts-NAME.json.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from dualvit.data.yolo_layout import read_pairs
from dualvit.files import read_yaml, write_json
from dualvit.provenance import environment

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
RATES = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]
LOWER = {"noise": [1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3]}  # its trainer multiplies the backbone's rate by 8
EVERY = 5  # of the training pictures, each fifth chooses the rate
MOST = 10  # rates of a row


def dualvit(*arguments: Any) -> None:
    """Run a command of dualvit; stops where it fails."""
    subprocess.run([sys.executable, "-m", "dualvit", *map(str, arguments)], check=True)


def parts(data: Path, out: Path) -> Path:
    """Write lists of the training pictures that choose a rate, and a data.yaml of them."""
    names, pairs = read_pairs(data, "train")
    files = [str(picture.resolve()) for picture, _ in pairs]
    out.mkdir(parents=True, exist_ok=True)
    chosen = files[EVERY - 1 :: EVERY]
    (out / "val.txt").write_text("\n".join(chosen) + "\n")
    (out / "train.txt").write_text("\n".join(file for file in files if file not in set(chosen)) + "\n")
    content = {"path": str(out.resolve()), "train": "train.txt", "val": "val.txt", "names": dict(enumerate(names))}
    (out / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return out / "data.yaml"


def fraction(data: Path, percent: int, out: Path) -> Path:
    """Write a list of a share of the training pictures, the larger shares holding the smaller, and its data.yaml."""
    names, pairs = read_pairs(data, "train")
    files = [str(picture.resolve()) for picture, _ in pairs]
    random.Random(0).shuffle(files)
    out.mkdir(parents=True, exist_ok=True)
    (out / "train.txt").write_text("\n".join(files[: max(1, round(len(files) * percent / 100))]) + "\n")
    validation = str((data.parent / read_yaml(data)["val"]).resolve())
    content = {"path": str(out.resolve()), "train": "train.txt", "val": validation, "names": dict(enumerate(names))}
    (out / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return out / "data.yaml"


def rows(args: argparse.Namespace, out: Path) -> dict[str, dict[str, Any]]:
    """Return what each row's model is built from."""
    student = out / "pretrain" / "dualvit_n.safetensors"
    model = "yolov8n-dualvit.yaml" if args.task == "detect" else "yolov8n-dualvit-seg.yaml"
    timm = "yolov8n-timm.yaml" if args.task == "detect" else "yolov8n-timm-seg.yaml"
    found = {"noise": {"name": model}, "distilled": {"name": model, "weights": str(student.resolve())}}
    found["imagenet"] = {"name": timm, "backbone": args.rival, "weights": str(args.imagenet.resolve())}
    return {name: found[name] for name in args.rows}


def compare(
    args: argparse.Namespace, folder: Path, data: Path, models: list[dict[str, Any]], seeds: list[int], epochs: int = 0
) -> Any:
    """Run a comparison, or what is left of it; returns its results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "engine": "yolo", "task": args.task, "data": str(data.resolve()), "models": models,
        "epochs": epochs or args.epochs,
        "image_size": args.image_size, "batch": 16, "seeds": seeds, "jobs": args.jobs, "workers": 0, "device": "cpu",
        "output": str(folder),
    }  # fmt: skip
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    dualvit("compare", file)
    return json.loads((folder / "results.json").read_text())


def at(spec: dict[str, Any], name: str, rate: float) -> dict[str, Any]:
    """Return a row's model at a learning rate."""
    return {**spec, "label": f"{name} {rate:g}", "settings": {"lr0": rate}}


def swept(args: argparse.Namespace, out: Path, data: Path, name: str, spec: dict[str, Any]) -> dict[float, float]:
    """Return a row's score at each rate, with rates added while the best one stands at an end."""
    rates = LOWER.get(name, RATES)
    while True:
        models = [at(spec, name, rate) for rate in rates]
        found = compare(args, out / f"sweep-{name}", data, models, [0], args.sweep_epochs)
        scores = {
            rate: row["accuracy"] for rate in rates for row in found["rows"] if row["label"] == f"{name} {rate:g}"
        }
        best = max(scores, key=lambda rate: scores[rate])
        if len(rates) >= MOST or best not in (rates[0], rates[-1]):
            return scores
        rates = [rates[0] / 2, *rates] if best == rates[0] else [*rates, rates[-1] * 2]


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data.yaml")
    parser.add_argument("--teacher", type=Path, required=True, help="weights of the teacher")
    parser.add_argument("--teacher-name", default="tf_efficientnet_lite2")
    parser.add_argument("--imagenet", type=Path, required=True, help="weights of the rival")
    parser.add_argument("--rival", default="tf_efficientnet_lite0")
    parser.add_argument("--rows", nargs="+", default=["noise", "distilled", "imagenet"])
    parser.add_argument("--task", default="detect", choices=("detect", "segment"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sweep-epochs", type=int, default=0, help="of the runs that choose a rate; as --epochs")
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at", nargs="*", default=[], metavar="ROW=RATE", help="rates known before, with no sweep")
    parser.add_argument("--fractions", type=int, nargs="*", default=[], help="percent of the labels, besides all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    name = args.data.parent.name
    out = args.out or Path("runs") / "starts" / name
    choosing = parts(args.data, out / "choosing")
    if "distilled" in args.rows:
        dualvit(
            "pretrain", args.data, "--teacher", args.teacher_name, "--weights", args.teacher, "--minutes", args.minutes,
            "--licence", "Apache-2.0", "--out", out / "pretrain",
        )  # fmt: skip
    specs = rows(args, out)
    known = {row: float(rate) for row, _, rate in (text.partition("=") for text in args.at)}
    sweeps = {row: swept(args, out, choosing, row, spec) for row, spec in specs.items() if row not in known}
    best = {row: max(scores, key=lambda rate: scores[rate]) for row, scores in sweeps.items()} | known
    final = compare(args, out / "final", args.data, [at(specs[row], row, best[row]) for row in specs], args.seeds)
    parts_of_labels = {}
    for percent in args.fractions:  # as many steps as with all labels, at the rates that were chosen with all
        data, epochs = fraction(args.data, percent, out / f"labels-{percent}"), round(100 * args.epochs / percent)
        models = [at(specs[row], row, best[row]) for row in specs if row != "imagenet"]
        found = compare(args, out / f"final-{percent}", data, models, args.seeds, epochs)
        parts_of_labels[percent] = {"epochs": epochs, "rows": found["rows"]}
    table = {"data": name, "task": args.task, "epochs": args.epochs,
             "epochs of a sweep": args.sweep_epochs or args.epochs, "image_size": args.image_size,
             "minutes of pretraining": args.minutes, "teacher": args.teacher_name, "rival": args.rival,
             "rates": {row: {f"{rate:g}": score for rate, score in scores.items()} for row, scores in sweeps.items()},
             "fractions": parts_of_labels, "metric": final["metric"], "rows": final["rows"],
             "sentences": final["sentences"],
             "cells": final["cells"], "environment": environment(False)}  # fmt: skip
    for options in (cell["options"] for cell in table["cells"] if "weights" in cell["options"]):
        options["weights"] = Path(options["weights"]).name  # where it lies says nothing
    write_json(RESULTS / f"starts-{name}.json", table)
    for row in final["rows"]:
        print(f"{row['label']:24s} {100 * row['accuracy']:.1f}  {row['spread'] and 100 * row['spread']:.1f}")


if __name__ == "__main__":
    main()
