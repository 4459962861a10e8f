"""Blood cells at several learning rates: each model of a comparison at its own best one.

    python benchmarks/learning_rates.py               # stock and dual, seed 0, half an hour on two cores
    python benchmarks/learning_rates.py --rates 2e-3  # one rate; finished cells are kept

Runs `benchmarks/compare/bccd.yaml` with other rates, and writes the cells to docs/results/compare-bccd-rates.json.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console

from dualvit.files import read_yaml, write_json
from dualvit.measure.compare import run
from dualvit.measure.experiment import load

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
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--models", nargs="+", default=["yolov8n", "dual"], help="labels of the experiment")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    cells = []
    for rate in options.rates:
        file = at_rate(rate, options.models, options.seeds)
        run(file, Console())
        folders = (load(file).output / "cells").iterdir()
        cells += [{"lr": rate, **read_yaml(folder / "result.json")} for folder in sorted(folders)]
    recipe = {key: value for key, value in asdict(load(EXPERIMENT).recipe).items() if key != "lr"}
    write_json(OUT, {"experiment": EXPERIMENT.name, "recipe": recipe, "cells": cells})
    for cell in cells:
        print(f"lr {cell['lr']:g}  {cell['label']} seed {cell['seed']}: {cell['metric']} {100 * cell['last']:.1f}")
    print(OUT)


if __name__ == "__main__":
    main()
