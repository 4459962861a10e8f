"""The result of a run of laptop-semantic as JSON, with a picture: the curve of mIoU, and one image with its masks.

    dualvit recipe fit laptop-semantic data.root=../shared/data/nuclei --out runs/laptop-semantic
    python benchmarks/semantic_result.py runs/laptop-semantic recipes-nuclei-semantic

Writes docs/results/NAME.json and NAME.png.
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from torchvision import tv_tensors

from dualvit.data.masks import draw_polygons, read_mask, read_rgb
from dualvit.files import read_json, write_json
from dualvit.pictures.masks import overlay
from dualvit.recipes.run import kind, load, read_task_checkpoint
from dualvit.recipes.semantic.data import ValidationTransform

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="of the result's files")
    parser.add_argument("--image", type=int, default=0, help="which validation image is drawn")
    parser.add_argument("--minutes", type=float, required=True, help="that fit took")
    args = parser.parse_args()
    result = read_json(args.run / "results.json")
    checkpoint = read_task_checkpoint(args.run / "best.ckpt")["dualvit"]
    assert result is not None
    content = {"row": "ours", **checkpoint["environment"], "seed": result["recipe"]["seed"], "minutes": args.minutes}
    write_json(RESULTS / f"{args.name}.json", content | result)
    task = load(args.run / "best.ckpt")
    found = kind("semantic").DataType(task.recipe, None).found
    file, labels = found.val[args.image]
    image = read_rgb(file)
    size, data = (image.shape[1], image.shape[2]), task.recipe.data
    truth = (
        draw_polygons(labels, size, len(found.classes))
        if found.polygons
        else read_mask(labels, size, len(found.classes), data.ignore_index, data.reduce_zero_label)
    )
    with torch.inference_mode():
        said = task.classify(
            ValidationTransform(data)(tv_tensors.Image(image), truth)[0].as_subclass(torch.Tensor), size
        )
    draw(
        result["history"], [image, overlay(image, said, found.classes), overlay(image, truth, found.classes)], args.name
    )


def draw(history: list[dict[str, float]], images: list[torch.Tensor], name: str) -> None:
    """The curve, and the image plain, as predicted, and as labelled."""
    matplotlib.use("Agg")
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.3), width_ratios=[1.35, 1, 1, 1], layout="constrained")
    epochs = [row["epoch"] for row in history]
    ious = [key for key in history[0] if key.startswith("iou/")]
    axes[0].plot(epochs, [row["miou"] for row in history], "o-", color="black", label="mean")
    for key in ious:
        axes[0].plot(epochs, [row[key] for row in history], "--", label=key.removeprefix("iou/"))
    axes[0].set(xlabel="epoch", ylabel="IoU, validation images", ylim=(0, 1))
    axes[0].grid(alpha=0.3)
    axes[0].legend(loc="lower right", frameon=False)
    for ax, image, title in zip(axes[1:], images, ("image", "predicted", "labelled"), strict=True):
        ax.imshow(image.permute(1, 2, 0).numpy())
        ax.set(title=title, xticks=[], yticks=[])
    figure.savefig(RESULTS / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
