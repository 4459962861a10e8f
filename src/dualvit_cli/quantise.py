"""The command `dualvit quantise`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualvit_cli.shared import importing, say, working

PRECISIONS = ("int8", "fp16", "bf16")
PICTURES = 128  # to calibrate on


def quantise(
    model: Annotated[str, typer.Argument(help="best.pt of YOLO, best.ckpt of a recipe's classifier, or a timm name.")],
    data: Annotated[
        Path | None, typer.Option(help="data.yaml; of a classifier, the folder with train/CLASS and val/CLASS.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of a timm name: a file of weights.")] = None,
    precision: Annotated[str, typer.Option(help="int8, fp16 or bf16.")] = "int8",
    calibrate: Annotated[
        str, typer.Option(metavar="N|FOLDER", help="Pictures: N of the training split, or all of a folder.")
    ] = str(PICTURES),
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Both sides in pixels; what it was trained at if left out.")
    ] = None,
    shift: Annotated[
        float, typer.Option(min=0.0, help="Error of the outputs up to which layers are brought back to float.")
    ] = 0.01,
    keep: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the accuracy that the file must keep.")
    ] = 0.99,
    seconds: Annotated[float, typer.Option(min=1.0, help="For the search of the layers that stay in float.")] = 300.0,
    rounds: Annotated[int, typer.Option(min=5, help="Passes of each file that are timed, in turn.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a pass.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the file and quantise.json.")] = Path("runs/quantise"),
) -> None:
    """Make a detector or a classifier smaller and faster for OpenVINO, and say what that costs.

    The file in float32 and the new one are scored on the validation pictures and timed in turn. The layers that lose
    most in int8 are found by measurement, stay in float, and are listed. Exit status 1 if too much accuracy is lost:
    the file then has a name that says so.
    """
    if data is None:
        raise ValueError("no data set is given; add --data, whose pictures calibrate and score the file")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; give one of {', '.join(PRECISIONS)}")
    with importing():
        from dualvit.deploy.precision import Settings
        from dualvit.deploy.quantise import require_quantiser
        from dualvit.deploy.subjects import open_subject
        from dualvit.locks import only_writer

        require_quantiser()
        subject = open_subject(model, data, weights, image_size)
    settings = Settings(precision, shift, keep, seconds, threads)
    files = pictures(subject, calibrate, data) if precision == "int8" else []
    with only_writer(out, "dualvit quantise"):
        with working(f"making {precision}") as progress:
            made, timed = measure(subject, files, settings, rounds, progress)
        whole = made.kept >= keep
        place = out / f"{subject.name}-{precision}{'' if whole else '-below-limit'}_openvino_model"
        report(made, timed, settings, place, out / "quantise.json", str(calibrate), subject)
    if not whole:
        raise ValueError(
            f"{precision} keeps {made.kept:.1%} of {made.worst}, and the limit is {keep:.0%}; the file is "
            f"{place}; calibrate on more pictures like those of use, give a smaller --shift, or --precision bf16"
        )


def pictures(subject: Any, calibrate: str, data: Path) -> list[Path]:
    """Return the pictures to calibrate on: so many of the training split, or all of a folder.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: too few pictures.
    """
    from dualvit.data.images import pictures_in
    from dualvit.deploy.subjects import chosen
    from dualvit.errors import MissingFileError

    if calibrate.isdigit():
        return chosen(subject.training_files(), int(calibrate), f"the training split of {data}")
    if not Path(calibrate).is_dir():
        raise MissingFileError(f"no folder at {calibrate}; give a folder, or how many pictures of the training split")
    return chosen(pictures_in(Path(calibrate)), PICTURES, calibrate)


def measure(subject: Any, files: list[Path], settings: Any, rounds: int, progress: Any) -> tuple[Any, Any]:
    """Make the file, and time it and the one in float32 in turn."""
    from functools import partial

    from dualvit.bench.rounds import in_turn
    from dualvit.deploy.precision import HINTS, make
    from dualvit.deploy.quantise import Compiled

    made = make(subject, files, settings, progress)
    image = subject.picture(files[0]) if files else subject.example()
    hints = {"float32": (made.float_model, "f32"), settings.precision: (made.model, HINTS[settings.precision])}
    passes = {name: partial(Compiled(model, settings.threads, hint), image) for name, (model, hint) in hints.items()}
    return made, in_turn([passes], rounds)


def report(made: Any, timed: Any, settings: Any, place: Path, file: Path, calibrate: str, subject: Any) -> None:
    """Write the file and the figures, and print them."""
    from dataclasses import asdict

    from dualvit.bench.results import Latency
    from dualvit.deploy.precision import share_kept, write
    from dualvit.deploy.runtimes import versions
    from dualvit.files import write_json
    from dualvit.provenance import environment

    name = settings.precision
    faster = timed.ratio("float32", name)
    latency = {key: Latency.of(times) for key, times in timed.times.items()}
    write(made, place, subject.name, name)
    size = sum(one.stat().st_size for one in place.iterdir())
    about = environment(False)
    about["versions"] |= versions(["openvino"])
    write_json(file, {
        "settings": asdict(settings), "calibrate": calibrate, "image_size": subject.image_size,
        "measure": made.worst, **made.plain(), "times as fast": asdict(faster),
        "latency": {key: asdict(one) for key, one in latency.items()}, "bytes": size, "environment": about,
    })  # fmt: skip
    for measure, (before, after) in made.measures.items():
        say(f"{measure}: float32 {before:.4f}, {name} {after:.4f}, kept {share_kept(before, after):.1%}")
    moved = made.shift
    if subject.counted == "boxes":
        say(f"scores move by {moved.mean:.4f} over {moved.matched} matched boxes; {moved.lost} lost, {moved.new} new")
    else:
        say(f"scores move by {moved.mean:.4f} over {moved.matched} pictures; {moved.lost} others change their class")
    say(f"times as fast as float32: {faster}; {', '.join(f'{key} {one}' for key, one in latency.items())}")
    say(f"what this CPU computed in: {', '.join(f'{count} layers {kind}' for kind, count in made.ran[1].items())}")
    if made.found is not None:
        say(f"int8: {made.share:.1%} of the multiply-adds; layers left in float: {', '.join(made.floats) or 'none'}")
        if not made.found.reached:
            say(f"the search ended above --shift {settings.shift:g}, at {min(made.found.errors.values()):.3f}")
    say(f"{place} ({size / 1e6:.1f} MB), {file}")
