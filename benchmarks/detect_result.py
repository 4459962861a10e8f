"""The result of a run of detection as JSON, with a picture: the curve of AP, and images with what was found.

    dualvit recipe fit laptop-detect data.root=../shared/data/bccd --out runs/laptop-detect
    python benchmarks/detect_result.py runs/laptop-detect recipes-bccd

Writes docs/results/NAME.json and NAME.png.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from dualvit.files import read_json, write_json
from dualvit.recipes.run import kind, load, read_task_checkpoint

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="of the result's files")
    parser.add_argument("--images", type=int, nargs=2, default=(2, 19), help="which validation images are drawn")
    parser.add_argument("--minutes", type=float, required=True, help="that fit took")
    parser.add_argument("--note", default="", help="what else a reader must know")
    args = parser.parse_args()
    result = read_json(args.run / "results.json")
    if result is None:
        raise SystemExit(f"{args.run} has no results.json; is the run finished?")
    checkpoint = read_task_checkpoint(args.run / "best.ckpt")["dualvit"]
    content = {"row": "ours", **checkpoint["environment"], "seed": result["recipe"]["seed"], "minutes": args.minutes}
    write_json(RESULTS / f"{args.name}.json", content | ({"note": args.note} if args.note else {}) | result)
    task = load(args.run / "best.ckpt")
    found = kind("detect").DataType(task.recipe, None).val
    with tempfile.TemporaryDirectory() as folder:
        for line in task.predict([found.pictures[index].file for index in args.images], Path(folder)):
            print(line)
        pictures = [Image.open(file).convert("RGB") for file in sorted(Path(folder).glob("*.png"))]
    draw(result["history"], pictures, args.name)


def draw(history: list[dict[str, float]], pictures: list[Image.Image], name: str) -> None:
    """The curves of AP, and the pictures beside them."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), dpi=80, layout="constrained")
    for score, label in (("AP", "AP"), ("AP50", "AP50"), ("box_AP", "AP of boxes")):
        if score in history[0]:
            axes[0].plot([row["epoch"] for row in history], [row[score] for row in history], marker=".", label=label)
    axes[0].set(xlabel="epoch", ylabel="average precision", ylim=(0, 1))
    axes[0].grid(alpha=0.3)
    axes[0].legend(frameon=False)
    for axis, picture in zip(axes[1:], pictures, strict=True):
        axis.imshow(picture)
        axis.set_axis_off()
    figure.savefig(RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
