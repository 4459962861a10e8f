"""The command `dualvit explain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualvit_cli.shared import before_torch, console, importing, keep_memory, say, working


def explain(
    pictures: Annotated[
        Path | None, typer.Argument(metavar="PICTURES", help="A picture, a folder of pictures, or a video.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="best.pt or .safetensors of YOLO, best.ckpt of a recipe, or a timm name.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Of a timm name: a file of weights.")] = None,
    methods: Annotated[
        str, typer.Option(help="Of relevance, layercam, eigencam, drise, evidence, split by commas; two if left out.")
    ] = "",
    number: Annotated[int | None, typer.Option("--object", help="One object alone, by its number, from 0.")] = None,
    label: Annotated[str | None, typer.Option("--class", help="Objects of this class alone, by its name.")] = None,
    confidence: Annotated[float, typer.Option(help="From which an object counts as found.")] = 0.25,
    most: Annotated[int, typer.Option(help="Objects per picture that get maps, the surest first.")] = 3,
    stage: Annotated[int | None, typer.Option(help="Whose regions are drawn, from 0.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Of YOLO the longer side in pixels, of a timm name both sides.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Of a video, the step from frame to frame.")] = 30,
    frames: Annotated[int, typer.Option(min=1, help="Of a video, the most frames.")] = 20,
    attention: Annotated[
        bool,
        typer.Option("--attention", help="Write who reads where too, per head: NAME-attention.png, and in NAME.npz."),
    ] = False,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Score methods on drawn pictures whose evidence is known.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures, maps and figures.")] = Path("runs/explain"),
) -> None:
    """Show what a model looked at: a map per object, and the regions that its semantics carve out.

    Each picture gives NAME.png to look at, NAME.npz with the maps, and NAME.json with all figures.
    """
    if benchmark:
        given = {"a picture": pictures, "--model": model, "--object": number, "--class": label, "--stage": stage}
        given["--attention"] = attention or None
        if odd := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"--benchmark draws its own pictures and trains its own models; leave {odd[0]} out")
        _benchmark(methods, out)
        return
    if pictures is None or model is None:
        missing = "PICTURES" if pictures is None else "--model"
        raise ValueError(f"{missing} is missing; give a picture, a folder or a video, and --model FILE")
    if not pictures.exists():
        raise FileNotFoundError(f"no picture, folder or video at {pictures}; give one that is there")
    with before_torch():
        from dualvit.data.listing import image_files

        if pictures.is_dir():
            image_files([pictures], out)
    with importing():
        keep_memory()
        from dualvit.explain.choosing import Wanted
        from dualvit.explain.opening import open_subject
        from dualvit.explain.run import Source, run
        from dualvit.locks import only_writer
        from dualvit.weights import sha256

    wanted = Wanted(methods, number, label, confidence, stage, most)
    with only_writer(out, "dualvit explain"):
        with working(f"opening {model}"):
            subject = open_subject(model, weights, image_size)
            about = {"model": model, "image_size": image_size}
            about |= {f"sha256_{file.name}": sha256(file) for file in (Path(model), weights) if file and file.is_file()}
        with working("explaining") as progress:
            done = run(subject, Source(pictures, every, frames), out, wanted, about, say, progress, attention)
    _end(done, out)


def _end(done: Any, out: Path) -> None:
    """Say how much there is, and end with an error if nothing could be explained."""
    words = [f"{len(done.written)} explained in {out}"]
    if done.earlier:
        words.append(f"{len(done.earlier)} explained before")
    if done.failed:
        words.append(f"{len(done.failed)} not explained")
    say(", ".join(words))
    if not done.written and not done.earlier:
        raise typer.Exit(1)


def _benchmark(methods: str, out: Path) -> None:
    """Score methods on known evidence."""
    with importing():
        keep_memory()
        from dualvit.explain.known import run_known
        from dualvit.locks import only_writer

    with only_writer(out, "dualvit explain"), working("known evidence") as progress:
        found, files = run_known(methods, out, say, progress)
    console.print(found.table())
    say(", ".join(map(str, files)))
    if not found.scores:
        raise typer.Exit(1)
