"""The commands `dualvit eval`, `dualvit probe` and `dualvit token-labels`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualvit_cli.shared import LIBRARIES, Command, keep_memory, say, working

Model = Annotated[str, typer.Argument(help="best.ckpt of a run, or any timm model with --weights.")]
DataSet = Annotated[Path, typer.Argument(help="Folder with train/CLASS/ and val/CLASS/.")]
Weights = Annotated[Path | None, typer.Option(help="Weights of a timm model.")]
Size = Annotated[int | None, typer.Option(help="Sides of the image in pixels; the checkpoint's, or 224.")]
Batch = Annotated[int, typer.Option(help="Images per pass.")]
Workers = Annotated[int, typer.Option(help="Processes that read images.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
Unreadable = Annotated[int, typer.Option(help="The most images that may be skipped since they cannot be read.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("eval", cls=Command)(evaluate)
    app.command(cls=Command)(probe)
    app.command("token-labels", cls=Command)(token_labels)


def evaluate(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Folder with val/CLASS/, or with CLASS/.")],
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for eval.json and confusion.png.")] = Path("runs/eval"),
    image_size: Size = None,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """Score a classifier: top-1, top-5, and a picture of the classes that it confuses."""
    with working(f"evaluating {model}", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.evaluate import Look
        from dualvit.recipes.classify.evaluate import evaluate as run

        look = Look(model, weights, image_size, batch, workers, device, unreadable, report)
        result = run(look, data, out)
    for note in result["notes"]:
        say(f"note: {note}")
    say(f"top1 {result['top1']:.4f}  top5 {result['top5']:.4f}  {result['images']} images{_skipped(result)}")
    say(", ".join(result["files"]))


def probe(
    model: Model,
    data: DataSet,
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder for probe.json.")] = Path("runs/probe"),
    neighbours: Annotated[int, typer.Option(help="Nearest neighbours that vote.")] = 20,
    image_size: Size = None,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """Score how well frozen features tell classes apart: nearest neighbours, and a linear classifier."""
    with working(f"features of {model}", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.evaluate import Look
        from dualvit.recipes.classify.evaluate import probe as run

        look = Look(model, weights, image_size, batch, workers, device, unreadable, report)
        result = run(look, data, out, neighbours)
    for note in result["notes"]:
        say(f"note: {note}")
    say(f"knn {result['knn']:.4f}  linear {result['linear']:.4f}{_skipped(result)}  {', '.join(result['files'])}")


def token_labels(
    model: Model,
    data: DataSet,
    out: Annotated[Path, typer.Argument(help="Folder of the label maps.")],
    weights: Weights = None,
    image_size: Size = None,
    top: Annotated[int, typer.Option(help="Classes that are kept at each place.")] = 5,
    batch: Batch = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    unreadable: Unreadable = 100,
) -> None:
    """Write token labels: for each picture of a data set a map of class scores, which some recipes learn from.

    A classifier of the same classes, the teacher, says for each place of a picture what stands there. Token labelling
    (arXiv 2104.10858) trains each token of a network with the label of its place, besides the picture's own.
    """
    with working("label maps", first=LIBRARIES) as report:
        keep_memory()
        from dualvit.recipes.classify.evaluate import Look
        from dualvit.recipes.classify.teacher import write_maps

        look = Look(model, weights, image_size, batch, workers, device, unreadable, report)
        result = write_maps(look, data, out, top)
    for note in result["notes"]:
        say(f"note: {note}")
    agree = f"{100 * result['agree']:.1f} % are of their picture's own class"
    listed = f": {out / 'unreadable.txt'}" if result["skipped"] else ""
    say(f"{result['images']} label maps in {out}; {agree}{_skipped(result)}{listed}")


def _skipped(result: dict[str, Any]) -> str:
    """How many images could not be read."""
    return f", {result['skipped']} skipped" if result["skipped"] else ""
