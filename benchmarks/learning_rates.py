"""Blood cells at several learning rates: stock YOLOv8n and dual, each at its own best one.

    python benchmarks/learning_rates.py                                 # seed 0 at three rates, half an hour
    python benchmarks/learning_rates.py --rates 1e-3 --seeds 0 1 2      # finished cells are kept
    python benchmarks/learning_rates.py --rates                         # the JSON and the picture of what is there

Runs `benchmarks/compare/bccd.yaml` with other rates; docs/results/compare-bccd-rates.json and .png take what came out.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import yaml
from rich.console import Console

from dualvit.compare.experiment import load
from dualvit.compare.runner import run
from dualvit.files import read_json, read_yaml, write_json

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = ROOT / "benchmarks" / "compare" / "bccd.yaml"
OUT = ROOT / "docs" / "results" / "compare-bccd-rates.json"
RUNS = Path("runs") / "rates"


def at_rate(rate: float, labels: list[str], seeds: list[int]) -> Path:
    """The experiment's YAML with another rate, and only some of its models and seeds."""
    settings = read_yaml(EXPERIMENT)
    models = [model for model in settings["models"] if model["label"] in labels]
    changes = {"models": models, "seeds": seeds, "lr": rate, "output": str(RUNS / f"{rate:g}")}
    file = RUNS / f"{rate:g}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(settings | changes, sort_keys=False))
    return file


def main() -> None:
    """Run what is left of the cells, and keep all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="*", type=float, default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--models", nargs="+", default=["yolov8n", "dual"], help="labels of the experiment")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    for rate in options.rates:
        run(at_rate(rate, options.models, options.seeds), Console())
    files = sorted(RUNS.glob("*/cells/*/result.json"), key=lambda file: (float(file.parts[-4]), file.parts))
    cells = [{"lr": float(file.parts[-4]), **(read_json(file) or {})} for file in files]
    recipe = {key: value for key, value in asdict(load(EXPERIMENT).recipe).items() if key != "lr"}
    write_json(OUT, {"experiment": EXPERIMENT.name, "recipe": recipe, "cells": cells})
    draw(cells)
    for cell in cells:
        print(f"lr {cell['lr']:g}  {cell['label']} seed {cell['seed']}: {cell['metric']} {100 * cell['last']:.1f}")
    print(OUT)


def draw(cells: list[dict[str, Any]]) -> None:
    """Accuracy against the learning rate: a line through the first seeds, a point per cell."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for label, colour in (("yolov8n", "#52637a"), ("dual", "#c23d08")):
        own = [cell for cell in cells if cell["label"] == label]
        first = [(cell["lr"], 100 * cell["last"]) for cell in own if cell["seed"] == 0]
        axes.plot(*zip(*first, strict=True), color=colour, lw=1.6)
        axes.plot([cell["lr"] for cell in own], [100 * cell["last"] for cell in own], "o", color=colour, ms=5)
        axes.annotate(label, first[-1], xytext=(8, 0), textcoords="offset points", color=colour, va="center")
    axes.set_xscale("log", base=2)
    rates = sorted({cell["lr"] for cell in cells})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_xlim(rates[0] / 1.15, rates[-1] * 1.4)
    axes.set_xlabel("learning rate (dual's backbone takes eight times as much)")
    axes.set_ylabel("mAP50-95 of the last epoch, %")
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT.with_suffix(".png"), dpi=160)


if __name__ == "__main__":
    main()
