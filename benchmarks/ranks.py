"""The mean rank of models over several comparisons, one per data set, with its interval.

    python benchmarks/ranks.py docs/results/first-raccoon.json docs/results/first-trees.json \
      docs/results/first-nuclei.json --models "yolov8n noise" "yolov8n-dualvit noise"

A comparison is a results.json of `dualvit compare`. Masks count as detectors do: yolov8n-seg is yolov8n here. If a
comparison has the same model at a rate of its own, as "yolov8n noise at 0.008", the better one counts. Ranks are taken
by the score of the comparison and by COCO's measure. The table goes to docs/results/ranks.json.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualvit.compare.statistics import mean_ranks
from dualvit.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
MEASURES: dict[str, Callable[[Any], float]] = {
    "Ultralytics": lambda cell: cell["last"],
    "COCO": lambda cell: cell["coco"]["AP"],
}


def scores(results: dict[str, Any], measure: Callable[[Any], float]) -> dict[str, dict[int, float]]:
    """Return what each model scored for each seed, under its name without a task and a rate."""
    rows: dict[str, dict[int, float]] = {}
    for cell in results["cells"]:
        rows.setdefault(cell["label"], {})[cell["seed"]] = measure(cell)
    best: dict[str, dict[int, float]] = {}
    for label, values in rows.items():
        name = re.sub(r" at [\d.e-]+$", "", label.replace("-seg", ""))
        if name not in best or statistics.fmean(values.values()) > statistics.fmean(best[name].values()):
            best[name] = values
    return best


def main() -> None:
    """Rank, tell, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results.json of comparisons")
    parser.add_argument("--models", nargs="+", required=True, help="labels")
    args = parser.parse_args()
    results = {file.stem: json.loads(file.read_text()) for file in args.results}
    found: dict[str, Any] = {"models": args.models, "sets": list(results)}
    for name, measure in MEASURES.items():
        sets = {}
        for one, cells in results.items():
            have = scores(cells, measure)
            sets[one] = {label: have[label] for label in args.models if label in have}
        ranks = mean_ranks(sets)
        found[name] = {"scores": sets, "ranks": {label: str(one) for label, one in ranks.items()}}
        print(f"{name}:", "; ".join(f"{label} {one}" for label, one in ranks.items()))
    write_json(RESULTS / "ranks.json", found)


if __name__ == "__main__":
    main()
