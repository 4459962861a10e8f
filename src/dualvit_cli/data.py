"""The commands on data: `dualvit data digits | scenes | cutouts | get | convert`, and `dualvit demo` on digits."""

from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import Command, console, importing, keep_memory, say, working

app = typer.Typer(no_args_is_help=True, help="Data sets: drawn ones, public ones, and yours in another layout.")


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
def cutouts(
    folder: Annotated[Path, typer.Argument(help="The folder of the data set; a new one.")],
    cut: Annotated[Path, typer.Option("--cutouts", help="A folder per class, of pictures with alpha.")],
    backgrounds: Annotated[Path, typer.Option(help="A folder of photographs.")],
    images: Annotated[int, typer.Option(help="Images, training and validation together.")] = 400,
    size: Annotated[int, typer.Option(help="Sides of an image in pixels.")] = 320,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 0,
    val: Annotated[float, typer.Option(help="Share of the images to validate on.")] = 0.2,
) -> None:
    """Paste your cut-outs over your photographs, with shadows, light, boxes and outlines."""
    notes: list[str] = []
    with working(f"making {images} images") as report:
        from dualvit.drawn.cutouts import Pictures, write_cutouts

        pictures = Pictures.read(cut, backgrounds, notes)
        yaml = write_cutouts(folder, pictures, images, size, seed, val, progress=report)
    for note in notes:
        say(note)
    say(f"{images} images of {len(pictures.names)} classes in {folder}; train on it with data={yaml}")


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


@app.command(cls=Command)
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of labelled pictures, a data.yaml, or a json of COCO's.")],
    out: Annotated[Path, typer.Argument(help="The folder of the result; a new or an empty one.")],
    to: Annotated[str, typer.Option(help="yolo, coco or voc.")],
    form: Annotated[
        str | None, typer.Option("--from", help="yolo, coco, voc or labelme; found out if left out.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="The folder that the file names in COCO's json begin at; looked for if left out."),
    ] = None,
    from_zero: Annotated[
        bool, typer.Option("--from-zero", help="VOC's xml holds edges from 0, as LabelImg writes; not pixels from 1.")
    ] = False,
    val: Annotated[float, typer.Option(help="Share of the training pictures to set apart to validate on.")] = 0.0,
    link: Annotated[bool, typer.Option("--link", help="Link to the pictures instead of copying them.")] = False,
) -> None:
    """Convert labelled pictures between the YOLO layout, COCO's json and Pascal VOC's xml, and from LabelMe's json.

    SOURCE stays as it is. All that is left out or changed is counted.
    """
    with working(f"converting {source}") as report:
        from dualvit.data.convert import Conversion
        from dualvit.data.convert import convert as convert_data
        from dualvit.data.layouts import Place

        place = Place(source, form, images, from_zero)
        done = convert_data(Conversion(place, out, to, link, val), progress=report)
    for note in done.notes:
        say(note)
    counts = ", ".join(f"{count} {split}" for split, count in done.pictures.items())
    say(f"{counts} images with {done.objects} objects of {len(done.classes)} classes in {out}; next: {done.next}")


def demo(
    folder: Annotated[Path, typer.Argument(help="The folder of data, run and pictures.")] = Path("demo"),
) -> None:
    """Train yolov8n-dualvit on digits, from noise and from the start in the package, and draw what it finds."""
    with importing():
        from dualvit.locks import only_writer
        from dualvit.yolo.demo import run

    keep_memory()
    with only_writer(folder, "dualvit demo"):
        run(folder, console)
