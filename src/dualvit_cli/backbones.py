"""The command `dualvit backbones`: every timm model that fits under a YOLO, and what it costs there."""

import fnmatch
from typing import Annotated, Any

import typer

from dualvit_cli.shared import Command, importing, say, working

LINE = "{:40s} {:>22s} {:>7s} {:>9s} {:>8s} {:>8s}  {}"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(cls=Command)(backbones)


def backbones(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or patterns, such as 'convnext*'; all of timm.")
    ] = None,
    yolo: Annotated[str, typer.Option(help="The YOLO on top: a family and a scale.")] = "yolov8n",
    image_size: Annotated[int, typer.Option(help="Height and width in pixels; a multiple of 32.")] = 640,
    measure: Annotated[bool, typer.Option(help="Time each of them on this machine.")] = False,
    rounds: Annotated[int, typer.Option(help="Passes of each that count, with --measure.")] = 10,
) -> None:
    """List the timm models that fit under a YOLO: channels, parameters, GFLOPs, latency, weights at hand.

    Parameters are those of the backbone and of the whole YOLO. A latency is that of the whole YOLO, fused, in eager
    PyTorch on one picture, on the CPU. Nothing is fetched. All of timm takes several minutes.
    """
    with importing():
        import timm

        from dualvit.errors import InputError
        from dualvit.weights.local import at_hand
        from dualvit.yolo.choice import choice

    patterns = names or ["*"]
    found = matching(patterns, timm.list_models())
    file = f"{yolo}-timm.yaml"
    with working("reading the YOLO"):
        choice("resnet18", file, image_size)  # which fits, so that a mistake in the options is named
    say(LINE.format("timm model", "channels at 8, 16, 32", "M", "M in all", "GFLOPs", "ms", "weights"))
    refused = 0
    for number, name in enumerate(found):
        with working(f"{number + 1} of {len(found)}"):
            try:
                one = choice(name, file, image_size)
            except InputError:
                if name in patterns:
                    raise
                refused += 1
                continue
            time = f"{latency(name, file, image_size, rounds):.1f}" if measure else ""
        channels = " ".join(map(str, one.channels.values()))
        own, whole = (f"{count / 1e6:.2f}" for count in (one.parameters, one.whole))
        say(LINE.format(name, channels, own, whole, f"{one.gflops:.1f}", time, str(at_hand(name) or "-")))
    say(f"{len(found) - refused} of {len(found)} fit under {yolo}; name a model to hear why it does not")


def matching(patterns: list[str], known: list[str]) -> dict[str, None]:
    """Return the names that patterns stand for, each once.

    Raises:
        ValueError: a pattern stands for none.
    """
    from dualvit.errors import InputError
    from dualvit.names import unknown_name

    found = {pattern: fnmatch.filter(known, pattern) for pattern in patterns}
    if lost := [pattern for pattern, names in found.items() if not names]:
        raise InputError(unknown_name("timm model", lost[0], known))
    return dict.fromkeys(name for names in found.values() for name in names)


def latency(name: str, file: str, image_size: int, rounds: int) -> float:
    """Return the milliseconds of a pass, the median."""
    from dualvit.bench.cost import fuse_for_inference, latencies
    from dualvit.bench.results import Latency
    from dualvit.yolo.choice import build

    model: Any = build(name, file)
    fuse_for_inference(model)
    return Latency.of(latencies({name: model}, image_size, rounds, warmup=2)[name]).median
