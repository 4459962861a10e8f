"""The commands on data: `dualvit data digits | scenes | get`, and `dualvit demo` on drawn digits."""

from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import Command, console, importing, keep_memory, say, working

app = typer.Typer(no_args_is_help=True, help="Data sets: drawn ones, and public ones.")


@app.command(cls=Command)
def digits(
    folder: Annotated[Path, typer.Argument(help="The folder of the data set; a new one.")],
    images: Annotated[int, typer.Option(help="Images, training and validation together.")] = 400,
    size: Annotated[int, typer.Option(help="Sides of an image in pixels.")] = 320,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 0,
) -> None:
    """Draw real handwritten digits on cluttered backgrounds, with boxes, polygons and classes."""
    with working(f"drawing {images} images, and single digits") as report:
        from dualvit.drawn.digits import write_digits

        yaml = write_digits(folder, images, size, seed, progress=report)
    say(f"{images} images in {folder}; train on it with data={yaml}")


@app.command(cls=Command)
def scenes(
    folder: Annotated[Path, typer.Argument(help="The folder of the data set; a new one.")],
    images: Annotated[int, typer.Option(help="Images, training and validation together.")] = 400,
    size: Annotated[int, typer.Option(help="Sides of an image in pixels.")] = 320,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 0,
    classes: Annotated[int, typer.Option(help="Kinds of shapes, 1 to 100.")] = 20,
) -> None:
    """Draw textured shapes over one another, with shadows and light, boxes and outlines."""
    with working(f"drawing {images} images") as report:
        from dualvit.drawn.varied import write_scenes

        yaml = write_scenes(folder, images, size, seed, classes, progress=report)
    say(f"{images} images in {folder}; train on it with data={yaml}")


@app.command(cls=Command)
def get(
    name: Annotated[str, typer.Argument(help="bccd, nuclei, raccoon or sign-digits.")],
    out: Annotated[Path | None, typer.Option(help="The folder of the data set; datasets/NAME if left out.")] = None,
) -> None:
    """Fetch a public data set, check it, and write it so that dualvit and YOLO read it.

    The real hosts were not tried when this was written. DUALVIT_MIRROR=URL takes the place of https://HOST.
    """
    with working(f"fetching {name}") as report:
        from dualvit.data.get import get as get_data

        data, pictures = get_data(name, out or Path("datasets") / name, progress=report)
    say(f"{pictures} images in {out or Path('datasets') / name}; train on it with data={data}")


def demo(
    folder: Annotated[Path, typer.Argument(help="The folder of data, run and pictures.")] = Path("demo"),
) -> None:
    """Train yolov8n-dualvit on digits for a few minutes, validate it, and draw its predictions."""
    with importing():
        from dualvit.locks import only_writer
        from dualvit.yolo.demo import run

    keep_memory()
    with only_writer(folder, "dualvit demo"):
        run(folder, console)
