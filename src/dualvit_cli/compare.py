"""The command `dualvit compare`."""

from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import Changes, before_torch, console, importing


def compare(
    experiment: Annotated[
        str | None, typer.Argument(help="YAML file with task, data, models, and epochs or minutes; or a template.")
    ] = None,
    changes: Changes = None,
    template: Annotated[
        bool, typer.Option("--template", help="Print the template of this name, a YAML to begin with; or list them.")
    ] = False,
) -> None:
    """Train models at an equal budget, and report accuracy, cost, and how sure the differences are.

    The same command again keeps finished models, continues stopped ones, and retries failed ones.

    \b
    dualvit compare --template                 lists the templates
    dualvit compare --template digits          prints one
    dualvit compare digits --set epochs=3
    """
    if template:
        print(_template(experiment), end="")
        return
    if experiment is None:
        raise ValueError("no experiment is named; give a YAML file, or see `dualvit compare --template`")
    with before_torch():
        from dualvit.compare.reading import load, require

        require(load(experiment, changes or ()))
    with importing():
        from dualvit.compare.runner import run

    if not run(Path(experiment), console, changes or ()):
        raise typer.Exit(1)


def _template(name: str | None) -> str:
    """Return a template's text; or, if no name is given, a line for each.

    Raises:
        ValueError: there is no such template.
    """
    with before_torch():
        from dualvit.compare import reading
        from dualvit.names import unknown_name

        files = {file.stem: file for file in Path(reading.__file__).with_name("templates").glob("*.yaml")}
        if name is None:
            firsts = {stem: file.read_text().splitlines()[0].lstrip("# ") for stem, file in sorted(files.items())}
            return "".join(f"{stem:10} {line}\n" for stem, line in firsts.items())
        if name not in files:
            raise ValueError(unknown_name("template", name, files))
        return files[name].read_text()
