"""The commands `dualvit eval`, `dualvit probe` and `dualvit token-labels`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dualvit_cli.early import keep_memory
from dualvit_cli.progress import LIBRARIES, working

console = Console()
Model = Annotated[str, typer.Argument(help="best.ckpt of a run, or any timm model with --weights.")]
DataSet = Annotated[Path, typer.Argument(help="Folder with train/CLASS/ and val/CLASS/.")]
Weights = Annotated[Path | None, typer.Option(help="Weights of a timm model.")]
Size = Annotated[int | None, typer.Option(help="Sides of the image in pixels; the checkpoint's, or 224.")]
Batch = Annotated[int, typer.Option(help="Images in a pass.")]
Workers = Annotated[int, typer.Option(help="Processes that read images.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
Unreadable = Annotated[int, typer.Option(help="The most images that may be skipped since they cannot be read.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("eval")(evaluate)
    app.command()(probe)
    app.command("token-labels")(token_labels)


def evaluate(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Folder with val/CLASS/, or with CLASS/.")],
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for eval.json and confusion.png.")] = Path("runs/eval"),
    size: Size = None,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """Top-1, top-5 and a confusion picture of a classifier."""
    with working(f"evaluating {model}", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.evaluate import evaluate as run

        found = run(model, data, out, weights, size, batch, workers, device, unreadable, report)
    skipped = f", {found['skipped']} skipped: {out / 'unreadable.txt'}" if found["skipped"] else ""
    _say(f"top1 {found['top1']:.4f}  top5 {found['top5']:.4f}  {found['images']} images{skipped}")
    _say(f"{out / 'eval.json'}, {out / 'confusion.png'}")


def probe(
    model: Model,
    data: DataSet,
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for probe.json.")] = Path("runs/probe"),
    neighbours: Annotated[int, typer.Option(help="Nearest neighbours that vote.")] = 20,
    size: Size = None,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """How well a network's frozen features tell classes apart: nearest neighbours, and a linear classifier."""
    with working(f"features of {model}", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.evaluate import probe as run

        found = run(model, data, out, weights, neighbours, size, batch, workers, device, unreadable, report)
    _say(f"knn {found['knn']:.4f}  linear {found['linear']:.4f}  {out / 'probe.json'}")


def token_labels(
    model: Model,
    data: DataSet,
    out: Annotated[Path, typer.Argument(help="Folder of the label maps.")],
    weights: Weights = None,
    size: Size = None,
    top: Annotated[int, typer.Option(help="Classes that are kept at each place.")] = 5,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """Make the label maps that token labelling trains with, by any classifier of the data set's classes."""
    with working("label maps", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.teacher import write_maps

        found = write_maps(model, data, out, weights, size, top, batch, workers, device, unreadable, report)
    _say(f"{found['images']} label maps in {out}; {100 * found['agree']:.1f} % are of their picture's own class")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
