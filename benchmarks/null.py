"""How often a comparison names a winner among equals: reports on models that are one, drawn from stored cells.

    python benchmarks/null.py

Each draw takes the chance that seeds had in real cells, `docs/results/*.json`: a cell's score less the mean of its
row, made wider for the mean's own error. Models of equal worth get such scores, and the report's own statistics say
whether any is clearly above another. At most 5 % of the draws may have a winner, whatever the reference: named
beforehand, or the best one. The table goes to docs/results/null.json.
"""

import argparse
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import binom

from dualvit.compare.statistics import LEVEL, against
from dualvit.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def chances(folder: Path) -> list[float]:
    """Return what seeds did to scores: of each row with three seeds or more, the cells' distances from its mean."""
    found = []
    for file in sorted(folder.glob("*.json")):
        rows: dict[str, dict[int, float]] = {}
        for cell in cells(json.loads(file.read_text())):
            rows.setdefault(cell["label"], {})[cell["seed"]] = cell["last"]
        for scores in (list(row.values()) for row in rows.values() if len(row) >= 3):
            mean, wider = statistics.fmean(scores), math.sqrt(len(scores) / (len(scores) - 1))
            found += [wider * (score - mean) for score in scores]
    return found


def cells(content: Any) -> list[dict[str, Any]]:
    """Return the cells in a stored result."""
    known = content.get("cells", []) if isinstance(content, dict) else []
    return [cell for cell in known if {"label", "seed", "last"} <= set(cell)]


def winners(pool: list[float], models: int, seeds: int, fixed: bool, draws: int, draw: random.Random) -> int:
    """Return in how many draws a report on equal models would name one that is clearly above or below."""
    count = 0
    for _ in range(draws):
        scores = {str(model): {seed: draw.choice(pool) for seed in range(seeds)} for model in range(models)}
        best = "0" if fixed else max(scores, key=lambda label: sum(scores[label].values()))
        count += any(one.clear for one in against(scores, best, fixed).values())
    return count


def main() -> None:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder whose cells are drawn from")
    args = parser.parse_args()
    pool, rows = chances(args.results), []
    for models in (2, 4, 7):
        for seeds in (2, 3, 5):
            for fixed in (True, False):
                count = winners(pool, models, seeds, fixed, args.draws, random.Random(f"{models} {seeds} {fixed}"))
                chance = float(binom.sf(count - 1, args.draws, LEVEL))  # of so many, if 5 % are the truth
                reference = "named" if fixed else "the best"
                rows.append({"models": models, "seeds": seeds, "reference": reference, "winners": count,
                             "share": count / args.draws, "chance at 5 %": chance})  # fmt: skip
                print(f"{models} models, {seeds} seeds, reference {reference}: {count / args.draws:.1%}", flush=True)
    worst = max(rows, key=lambda row: row["share"])
    print(f"the most: {worst['share']:.1%} of {args.draws} draws from {len(pool)} cells")
    write_json(RESULTS / "null.json", {"draws": args.draws, "cells": len(pool), "rows": rows})


if __name__ == "__main__":
    main()
