"""The command line: `dualvit yolo | recipe | compare | bench | ...`. Errors are one line, with the remedy.

It stands beside the package `dualvit`, and imports it inside commands alone: whoever imports `dualvit` gets torch and
timm with it, and `--help`, `--version` and a mistyped option need not wait for these. One file holds each group of
commands.

One rule says how a setting is written. What a YAML holds (recipe, compare) changes with `--set key=value`, once for
each setting. `dualvit yolo` takes Ultralytics' bare `key=value`, since users bring those commands. All else is an
ordinary option, `--name value`.
"""

import os
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from dualvit_cli import app as web
from dualvit_cli import (
    backbones,
    batch,
    bench,
    classify,
    compare,
    data,
    doctor,
    explain,
    export,
    models,
    pretrain,
    quantise,
    recipe,
    serve,
    yolo,
)
from dualvit_cli.shared import Command, console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Dual Vision Transformer: weights, data, training recipes, comparisons, and YOLO on top of it.",
)


def show_version(asked: bool) -> None:
    """Print the version and stop, if `--version` is given."""
    if asked:
        print(f"dualvit {version('dualvit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the command line itself."""


yolo.register(app)
app.add_typer(recipe.app, name="recipe")
app.command(cls=Command)(pretrain.pretrain)
app.command(cls=Command)(compare.compare)
app.command(cls=Command)(bench.bench)
classify.register(app)
models.register(app)
backbones.register(app)
app.add_typer(data.app, name="data")
app.command(cls=Command)(doctor.doctor)
app.command(cls=Command)(explain.explain)
app.command(cls=Command)(export.export)
app.command(cls=Command)(quantise.quantise)
serve.register(app)
app.command(cls=Command)(batch.batch)
app.command(cls=Command)(web.app)
app.command(cls=Command)(data.demo)


def stopped() -> NoReturn:
    """End as Ctrl-C does."""
    console.print("stopped")
    sys.exit(130)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit status 1, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # the name of a file may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="dualvit")
    except KeyboardInterrupt:
        stopped()
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            stopped()
        raise
    except Exception as error:
        if os.environ.get("DUALVIT_DEBUG"):
            raise
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:  # Python itself makes an error of an interrupt in some places of an import
            stopped()
        line = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name == "ultralytics":
            line = "this command needs Ultralytics; install dualvit[yolo]"
        print(f"error: {line}  (DUALVIT_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))
