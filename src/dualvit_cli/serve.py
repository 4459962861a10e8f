"""The commands `dualvit predict` and `dualvit serve`: what a model says of pictures, here and behind HTTP."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import LIBRARIES, Command, before_torch, importing, say, working

Runtime = Annotated[str, typer.Option(help="auto, eager (PyTorch), onnxruntime or openvino.")]
NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(cls=Command)(predict)
    app.command(cls=Command)(serve)


def predict(
    model: Annotated[str, typer.Argument(help="A checkpoint of a recipe or YOLO, an exported file, or a timm name.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    runtime: Runtime = "auto",
    confidence: Annotated[float, typer.Option(help="Objects with a lower score are left out.")] = 0.25,
    out: Annotated[Path, typer.Option(help="Folder for predictions.json and pictures.")] = Path("runs/predict"),
    weights: Annotated[Path | None, typer.Option(help="Weights of a timm model.")] = None,
    image_size: Annotated[int | None, typer.Option(help="In pixels; what the model was trained at.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of a pass; all cores where left out.")] = None,
) -> None:
    """Write what a model says of images, by any runtime: JSON and pictures. Unreadable ones are listed."""
    with working(f"predicting with {model}", bar=False, first=LIBRARIES):
        from dualvit.deploy.folder import predict_folder
        from dualvit.deploy.predictor import open_predictor

        predictor = open_predictor(model, runtime, weights, image_size, threads)
        say(f"{predictor.task} in {predictor.runtime}, {predictor.precision}: {predictor.why or 'as asked'}")
        for line in predict_folder(predictor, images, out, confidence):
            say(line)
    say(f"predictions in {out}")


def serve(
    models: Annotated[list[str], typer.Argument(help="Checkpoints or exported files; NAME=PATH names one.")],
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Whom to listen to; 0.0.0.0 is everybody.")] = "127.0.0.1",
    key_file: Annotated[Path | None, typer.Option(help="A file with the key that requests must show.")] = None,
    max_bytes: Annotated[int, typer.Option(help="Of a request.")] = 20_000_000,
    max_pixels: Annotated[int, typer.Option(help="Of a picture.")] = 25_000_000,
    timeout: Annotated[float, typer.Option(help="Seconds for a body to arrive, and for its answer.")] = 30.0,
    waiting: Annotated[int, typer.Option(help="Requests that may wait for a model.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Processes per model.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="The most pictures that go through a model at once.")] = 8,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Per worker; the cores, shared out, if left out; one on a cluster.")
    ] = None,
    runtime: Runtime = "auto",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster whose machines do the work, such as auto.")
    ] = None,
) -> None:
    """Answer for pictures over HTTP, until SIGTERM. SIGHUP opens the models' files anew without a lost request."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"serve needs {name}; install dualvit[serve]", name=name)
    with before_torch():
        from dualvit.serve.forks import prepare
        from dualvit.serve.limits import Limits, named, read_key

        paths, key = named(models), read_key(key_file)
        Limits(max_bytes, max_pixels, timeout, waiting)
        if address is None:
            prepare(paths.values())
    with importing():
        from dualvit.serve.limits import Limits, Source
        from dualvit.serve.server import run

    each = threads or (max(1, len(os.sched_getaffinity(0)) // (workers * len(paths))) if address is None else 1)
    sources = [Source(name, path, runtime, each, workers, batch) for name, path in paths.items()]
    if key is None and host not in ("127.0.0.1", "localhost", "::1"):
        say(f"note: whoever reaches {host}:{port} may ask; give --key-file to keep others out")
    limits = Limits(max_bytes, max_pixels, timeout, waiting)
    if address is None:
        run(sources, limits, key, host, port)
        return
    from dualvit.serve.cluster import on_cluster

    with on_cluster(address, sources) as begin:
        run(sources, limits, key, host, port, begin)
