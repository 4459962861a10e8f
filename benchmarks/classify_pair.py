"""The pair of docs/results/recipes-sign-digits.json: the same network with and without token labels.

    python benchmarks/classify_pair.py ../shared/data/sign-digits runs/pair

A finished run in the folder is taken as it is; what stopped continues.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from dualvit.files import read_json, write_atomic, write_json
from dualvit.pictures.palette import render
from dualvit.provenance import environment

RECIPES = {"without token labels": "laptop-classify", "with token labels": "laptop-token-labels"}
COLOURS = {"without token labels": "#5d6878", "with token labels": "#c2410c"}


def child(*words: object) -> float:
    """Run a command of this package; its CPU seconds."""

    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = seconds()
    subprocess.run([sys.executable, "-m", "dualvit", *map(str, words)], check=True)
    return seconds() - before


def train(recipe: str, data: Path, folder: Path, *more: str) -> None:
    """Fit a recipe, unless it is done, and note its CPU seconds beside the run."""
    run = folder / recipe
    if (run / "results.json").exists():
        return
    before = read_json(run / "cpu.json") or {"seconds": 0.0}
    spent = child(
        "recipe", "fit", recipe, f"data.root={data}", "trainer.enable_progress_bar=false", *more, "--out", run
    )
    write_json(run / "cpu.json", {"seconds": before["seconds"] + spent})


def row(name: str, folder: Path) -> dict[str, object]:
    """What is reported of a run."""
    run = folder / RECIPES[name]
    results, spent = read_json(run / "results.json"), read_json(run / "cpu.json")
    assert results is not None
    made = torch.load(run / "last.ckpt", weights_only=True)["dualvit"]["environment"]
    return {
        "name": name, "label": "ours", "recipe": results["recipe"], "best": results["best"],
        "last": results["history"][-1], "history": results["history"],
        "cpu_minutes": spent["seconds"] / 60 if spent else None, "seed": results["recipe"]["seed"], **made,
    }  # fmt: skip


def draw(rows: list[dict[str, object]]) -> bytes:
    """Top-1 of each epoch, both runs."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for found in rows:
        history: list[dict[str, float]] = found["history"]  # type: ignore[assignment]
        epochs, scores = zip(*((one["epoch"], 100 * one["top1"]) for one in history), strict=True)
        label = f"{found['name']}: {scores[-1]:.1f} %"
        if found["cpu_minutes"]:
            label += f", {found['cpu_minutes']:.1f} CPU minutes"
        axes.plot(epochs, scores, color=COLOURS[str(found["name"])], lw=2, label=label)
    axes.axhline(97, color="#b8c0cc", lw=1, ls="--")
    axes.text(1, 97.6, "97 %", color="#5d6878", fontsize=9)
    axes.set_xlabel("epoch")
    axes.set_ylabel("top-1 on 409 validation photographs, %")
    axes.set_ylim(0, 102)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("Hand signs, dualvit_n from scratch at 96 px", loc="left", fontsize=10)
    return render(figure)["png"]


def main() -> None:
    """Train the pair, or what is missing of it, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = parser.parse_args()
    maps = given.folder / "maps"
    train("laptop-classify", given.data, given.folder)
    if not (maps / "maps.json").exists():
        child("token-labels", given.folder / "laptop-classify" / "best.ckpt", given.data, maps)
    train("laptop-token-labels", given.data, given.folder, f"token_labels.maps={maps}")
    rows = [row(name, given.folder) for name in RECIPES]
    index = read_json(maps / "maps.json") or {}
    teacher = {key: index.get(key) for key in ("teacher", "top", "images", "agree")}
    found = {"rows": rows, "label_maps": teacher, "written": environment(cuda=False)}
    plain = json.dumps(found).replace(f"{given.folder}/", "")  # paths as they are within the folder
    write_json(given.out / "recipes-sign-digits.json", json.loads(plain))
    write_atomic(given.out / "recipes-sign-digits.png", draw(rows))


if __name__ == "__main__":
    main()
