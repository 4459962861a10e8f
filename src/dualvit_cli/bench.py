"""The command `dualvit bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualvit_cli.shared import before_torch, console, importing, say, working


def bench(
    models: Annotated[str, typer.Option(help="Names, split by commas; options as in dualvit_s:semantic_grid=8x8.")],
    image_size: Annotated[str, typer.Option(help="Sides of the images in pixels, split by commas: 224,640.")] = "224",
    batch: Annotated[int, typer.Option(help="Images per pass.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, bf16-autocast, float16, int8.")] = "float32",
    train: Annotated[bool, typer.Option(help="A training step instead of inference.")] = False,
    features: Annotated[bool, typer.Option(help="The maps that detectors read, without the classifier.")] = False,
    fuse: Annotated[bool, typer.Option(help="Fuse layers for inference first, such as a norm into its neighbour.")] = (
        False
    ),
    compile: Annotated[bool, typer.Option(help="Run through torch.compile.")] = False,
    grad_checkpointing: Annotated[
        str, typer.Option(help="Recompute blocks in the backward pass, to save memory: all, or stages, as 0,1.")
    ] = "",
    rounds: Annotated[int, typer.Option(help="Passes of each model that count, the models in turn.")] = 20,
    seconds: Annotated[float, typer.Option(help="No new round after this time.")] = 120.0,
    out: Annotated[Path, typer.Option(help="Folder for bench.json, the picture and the page.")] = Path("runs/bench"),
    report: Annotated[bool, typer.Option(help="End in report.html in the folder.")] = True,
) -> None:
    """Measure parameters, multiply-adds, latency, memory, and the share of the machine's matrix-product rate."""
    sides, stages = tuple(numbers("image-size", image_size)), recomputed(grad_checkpointing)
    with before_torch():
        from dualvit.recipes.checks import require_model

        for name in (model.split(":")[0] for model in split(models)):
            if not name.endswith((".yaml", ".yml")):
                require_model(name)
    with importing():
        from dualvit.bench.bench import bench as measure
        from dualvit.bench.report import show, write
        from dualvit.bench.results import BenchSettings
        from dualvit.locks import only_writer

    settings = BenchSettings(
        split(models), sides, split(dtype), batch, device, train, features, fuse, compile, stages, rounds, seconds
    )
    with only_writer(out, "dualvit bench"):
        with working("warm up") as tell:
            result = measure(settings, lambda what, done, total: tell(done, total, what), detector)
        show(result, console)
        files = write(result, out, report)
    say(f"results {', '.join(map(str, files))}")
    if not result.measured:
        raise typer.Exit(1)


def detector(name: str, options: dict[str, Any]) -> Any:
    """Build an Ultralytics YAML for the bench."""
    from dualvit.yolo.engine import network

    return network(name, options, "detect", 80)


def split(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated option."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(name: str, text: str) -> list[int]:
    """Return the whole numbers of a comma-separated option.

    Raises:
        ValueError: a word is none.
    """
    words = split(text)
    if not words or not all(word.isdigit() for word in words):
        raise ValueError(f"{name} is {text!r}; give whole numbers split by commas, such as 224,640")
    return [int(word) for word in words]


def recomputed(text: str) -> bool | tuple[int, ...]:
    """Return whether blocks are recomputed, or in which stages.

    Raises:
        ValueError: a word is no number.
    """
    return text == "all" if text in ("", "all") else tuple(numbers("grad-checkpointing", text))
