"""The command `dualvit doctor`."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dualvit_cli.shared import Changes, before_torch, importing, keep_memory, say, working

NEEDS = ("imagehash", "scipy", "jinja2", "matplotlib", "pydantic")
IMAGE_SIZE = 640
UNREAD = 2  # exit status if there is no report


def doctor(
    data: Annotated[Path, typer.Argument(help="A data.yaml, or the folder of a data set in any layout.")],
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Folder for doctor.html and doctor.json.")] = Path("runs/doctor"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
    model: Annotated[
        Path | None, typer.Option(help="best.ckpt, best.pt or .safetensors: rank the labels that it doubts.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=32, help="The longer side that the network will see, in pixels; 640 if left out."),
    ] = None,
    sheets: Annotated[int, typer.Option(min=0, help="Pictures on the sheet of labels; 0 draws no pictures.")] = 12,
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe whose settings and augmentation are taken; one for small sets if left out."),
    ] = None,
) -> None:
    """Find what costs accuracy in a data set, before the hours are spent. It changes nothing.

    Exit status: 0 if nothing is found, 1 if there is a fault (with --strict also for a warning), 2 if the data set
    cannot be read at all.
    """
    with _unread():
        report = _report(data, changes or [], recipe, (image_size, sheets), model, out)
    if as_json:
        import json

        print(json.dumps(report.plain(), indent=1, ensure_ascii=False))
    else:
        say(str(report))
        say(f"{out / 'doctor.html'}, {out / 'doctor.json'}")
    if status := report.status(strict):
        raise typer.Exit(status)


def _report(
    data: Path, changes: list[str], recipe: str | None, shown: tuple[int | None, int], model: Path | None, out: Path
) -> Any:  # fmt: skip
    """Examine a data set, and write the page."""
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"dualvit doctor needs {name}; install dualvit[doctor]")
    image_size, sheets = shown
    with before_torch(), working(f"looking at {data}") as progress:
        from dualvit.doctor.run import examine
        from dualvit.doctor.settings import settings_of

        examination = examine(data, image_size or IMAGE_SIZE, *settings_of(data, recipe, changes), progress)
    if not sheets and model is None:
        with before_torch():
            from dualvit.doctor.page import write

            return write(examination.report, out)
    with importing():
        keep_memory()
        from dualvit.doctor import show
    with working("asking the model" if model else "drawing") as progress:
        return show.finish(examination, show.Wanted(out, recipe, tuple(changes), sheets, model, image_size), progress)


@contextmanager
def _unread() -> Iterator[None]:
    """Give an error the exit status that says that there is no report."""
    try:
        yield
    except Exception as error:
        error.exit_status = UNREAD  # type: ignore[attr-defined]
        raise
