"""How far fewer labels reach: rows of a comparison again, on a part of its training pictures.

    dualvit compare benchmarks/compare/first-raccoon.yaml
    python benchmarks/fewer_labels.py benchmarks/compare/first-raccoon.yaml --percent 50 25 10

Each row keeps the learning rate that the comparison chose with all labels, its seeds, and its number of steps: with a
quarter of the pictures it sees each four times as often. Larger parts hold the smaller ones. The rows are those of
`--rows`, or the reference alone. All of it is runs of `dualvit compare` beside that of all labels, so the same command
goes on where it stopped. The table goes to docs/results/fewer-labels-NAME.json, with the rows of all labels, and how
far each of them is above the part, with intervals that hold for all of them at once.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from dualvit.compare.statistics import against
from dualvit.compare.sweep import write_lists
from dualvit.data.yolo_layout import read_pairs
from dualvit.files import read_yaml, write_json

PART = "this part"
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def part(data: Path, percent: int, out: Path) -> Path:
    """Write a list of a share of the training pictures, and its data.yaml."""
    names, pairs = read_pairs(data, "train")
    files = [str(picture.resolve()) for picture, _ in pairs]
    random.Random(0).shuffle(files)
    kept = files[: max(1, round(len(files) * percent / 100))]
    held_out = [str(picture.resolve()) for picture, _ in read_pairs(data, "val")[1]]
    return write_lists({"train": kept, "val": held_out}, names, out)


def compared(experiment: dict[str, Any], file: Path) -> Any:
    """Run a comparison, or what is left of it; returns its results.json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(experiment, sort_keys=False))
    subprocess.run([sys.executable, "-m", "dualvit", "compare", str(file)], check=True)
    return json.loads((Path(experiment["output"]) / "results.json").read_text())


def scores(cells: list[Any]) -> dict[str, dict[int, float]]:
    """Return the last score of each row's seeds."""
    found: dict[str, dict[int, float]] = {}
    for cell in cells:
        found.setdefault(cell["label"], {})[cell["seed"]] = cell["last"]
    return found


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="YAML of a comparison of YOLOs that is done")
    parser.add_argument("--percent", type=int, nargs="+", default=[50, 25, 10])
    parser.add_argument("--rows", nargs="+", help="labels; the reference if left out")
    args = parser.parse_args()
    experiment = read_yaml(args.experiment)
    whole = Path(experiment["output"])
    every = json.loads((whole / "results.json").read_text())
    wanted = args.rows or [every["reference"]]
    models = [one for one in every["config"]["models"] if one["label"] in wanted]  # now with their rates
    own = {key: value for key, value in experiment.items() if key not in ("sweep", "reference", "null_row")}
    table: dict[str, Any] = {"100": {"epochs": experiment["epochs"], "rows": every["rows"]}}
    whole_rows = scores(every["cells"])
    for percent in args.percent:
        place = whole.with_name(f"{whole.name}-{percent}")
        data, epochs = part(Path(experiment["data"]), percent, place / "data"), experiment["epochs"] * 100 // percent
        settings = own | {"data": str(data), "models": models, "epochs": epochs, "output": str(place / "compare")}
        found = compared(settings, place / "compare.yaml")
        gains = {
            label: {other: str(one) for other, one in against(whole_rows | {PART: values}, PART, fixed=True).items()}
            for label, values in scores(found["cells"]).items()
        }
        table[str(percent)] = {
            "epochs": epochs,
            "rows": found["rows"],
            "all labels above": gains,
            "cells": found["cells"],
        }
        print(f"{percent} %:", json.dumps(gains, indent=1))
    write_json(RESULTS / f"fewer-labels-{whole.name}.json", table)


if __name__ == "__main__":
    main()
