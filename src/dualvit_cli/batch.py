"""The command `dualvit batch`."""

from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import importing, say, working


def batch(
    source: Annotated[
        str,
        typer.Argument(help="A folder, tar files such as train-{000..099}.tar, or an address such as s3://bucket/x."),
    ],
    model: Annotated[str, typer.Option(help="A checkpoint, an exported file, or a timm name with --weights.")],
    out: Annotated[Path, typer.Option(help="Folder for the rows, their parts and the page.")],
    format: Annotated[str, typer.Option(help="parquet, or coco for boxes and masks.")] = "parquet",
    runtime: Annotated[str, typer.Option(help="auto, eager, onnxruntime or openvino.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Of Ray; 0 works in this process, without Ray. One per four cores if left out."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto; this machine if left out.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures that the model is given at once.")] = 16,
    confidence: Annotated[float, typer.Option(help="Objects with a lower score are left out.")] = 0.25,
    image_size: Annotated[int | None, typer.Option(min=32, help="In pixels; the model's own if left out.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Of a timm name.")] = None,
) -> None:
    """Ask a model about all pictures of a place: one row for each, whatever is killed; the same command goes on.

    Exit status: 0 if a picture has an answer, 1 if none has one.
    """
    with importing():
        from dualvit.batch.plan import Settings
        from dualvit.batch.run import run
        from dualvit.deploy.predictor import open_predictor
        from dualvit.report.page import NAME

    settings = Settings(source, model, runtime, str(weights) if weights else None, image_size, confidence, batch)
    with working("opening the model") as tell:
        done = run(
            out, settings, open_predictor, format, workers, address,
            lambda count, total: tell(count, total, "asking about pictures"),
        )  # fmt: skip
    for line in done.notes:
        say(f"note: {line}")
    say(str(done))
    say(f"{done.file}, {out / NAME}")
    if not done.counts.answered:
        raise typer.Exit(1)
