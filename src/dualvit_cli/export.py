"""The command `dualvit export`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dualvit_cli.shared import LIBRARIES, console, say, working

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript", "torch-export": ".pt2",
            "tensorrt": ".onnx"}  # fmt: skip


def export(
    model: Annotated[str, typer.Argument(help="A timm name, best.ckpt of a recipe, or best.pt of YOLO.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(SUFFIXES)}.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; beside the checkpoint if left out.")] = None,
    weights: Annotated[str | None, typer.Option(help="Of a timm name: a file, start or random.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Sides in pixels; those it was trained at if left out.")
    ] = None,
    limit: Annotated[float, typer.Option(help="The largest error that the file may have.")] = 1e-4,
    features: Annotated[bool, typer.Option("--features", help="Of a timm name: the stages' maps.")] = False,
    static: Annotated[bool, typer.Option("--static", help="Batch 1 and one size.")] = False,
) -> None:
    """Write a network as a file for a runtime, and say how far its answers are from the network's own.

    The file is asked at two batches and three sizes. If an error is above the limit, nothing is written.
    """
    if form not in SUFFIXES:
        raise ValueError(f"unknown format {form!r}; give one of {', '.join(SUFFIXES)}")
    if image_size is not None and image_size < 32:
        raise ValueError(f"--image-size is {image_size}; sides must be at least 32 pixels")
    if not 0 < limit < float("inf"):
        raise ValueError(f"--limit is {limit:g}; give a number above 0")
    stored = Path(model).suffix in (".ckpt", ".pt", ".safetensors")
    target = out or (Path(model).with_suffix("") if stored else Path(model)).with_suffix(SUFFIXES[form])
    with working(f"exporting {model}", bar=False, first=LIBRARIES):
        from dualvit.deploy.export import export as run
        from dualvit.deploy.export import require
        from dualvit.deploy.sources import open_source

        require(form, target)
        result = run(open_source(model, weights, image_size, features), form, target, limit, static)
    for parity in result.parities:
        console.print(table(parity))
    if layers := result.nodes.get("LayerNormalization"):
        say(f"{layers} LayerNormalization nodes of {sum(result.nodes.values())} nodes")
    if form == "tensorrt":
        say("TensorRT was not run: it needs a GPU. Errors are those of the ONNX file that it is built from.")
    worst = max(parity.error for parity in result.parities)
    say(f"largest error {worst:.1e}, within {limit:g}: {', '.join(map(str, result.files))}")


def table(parity: Any) -> Table:
    """Return the errors of each shape and output."""
    boxes = f"; {parity.boxes[1]} of {parity.boxes[0]} boxes after NMS agree" if parity.boxes else ""
    if parity.boxes == (0, 0):
        boxes = "; no boxes were compared, since the network found none in the drawn pictures"
    title = f"{parity.runtime}, {parity.precision}{boxes}"
    rows = Table("shape", "output", "max error", "mean error", "of 1 + |value|", title=title, box=None,
                 title_justify="left", title_style="bold", header_style="bold")  # fmt: skip
    for row in parity.rows:
        shape = "x".join(map(str, row.shape))
        rows.add_row(shape, row.output, *(f"{value:.1e}" for value in (row.max_error, row.mean_error, row.error)))
    return rows
