"""The commands `dualvit recipe ...`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dualvit_cli.early import before_torch, keep_memory
from dualvit_cli.progress import LIBRARIES, importing, working

app = typer.Typer(
    no_args_is_help=True, help="The paper's recipes, and small ones: list, show, fit, validate, predict, export."
)
console = Console()
Changes = Annotated[list[str] | None, typer.Argument(help="Settings that change, such as data.root=folder.")]


@app.command("list")
def list_recipes() -> None:
    """List the recipes that come with the package."""
    with before_torch():
        from dualvit.recipes.config import names, read

    table = Table("recipe", "published", "what", box=None, header_style="bold")
    recipes = sorted((read(name) | {"recipe": name} for name in names()), key=lambda plain: plain["task"])
    task = ""
    for plain in recipes:
        if plain["task"] != task:
            if task:
                table.add_row()
            task = plain["task"]
            table.add_row(f"[bold cyan]{task}[/bold cyan]")
        table.add_row(plain["recipe"], _published(plain.get("published", {})), plain.get("title", ""))
    console.print(table)
    say("\nThe paper's scores are in percent, those of Mask R-CNN of boxes / masks.")
    say("dualvit recipe show NAME prints the settings; fit NAME data.root=FOLDER trains.")


def _published(scores: dict[str, float]) -> str:
    """The paper's scores of a row in a few letters: box AP before that of masks."""
    return f"{' / '.join(map(str, scores.values()))} {list(scores)[-1]}" if scores else ""


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")], changes: Changes = None
) -> None:
    """Print a recipe in full, defaults included, as YAML that `fit` takes."""
    import yaml  # type: ignore[import-untyped]

    with before_torch():
        from dualvit.recipes.checks import require_known
        from dualvit.recipes.config import load_recipe, plain

        loaded = load_recipe(recipe, changes or ())
        require_known(loaded)
        print(yaml.safe_dump(plain(loaded), sort_keys=False, allow_unicode=True), end="")


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")],
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE where left out.")] = None,
) -> None:
    """Train, or continue where the run in the folder stopped."""
    with before_torch():
        from dualvit.recipes.checks import require_files, require_known, require_maps
        from dualvit.recipes.config import load_recipe

        loaded = load_recipe(recipe, changes or ())
        require_known(loaded)
        require_files(loaded)
        require_maps(loaded)
    with importing():
        keep_memory()
        from dualvit.recipes.run import best_row
        from dualvit.recipes.run import fit as run_fit
        from dualvit.recipes.run import load_recipe as load_again  # of the types that the imported package has

    folder = out or Path("runs") / Path(recipe).stem
    task = run_fit(load_again(recipe, changes or ()), folder)
    best = best_row(task)
    if task.global_rank == 0 and best is not None:
        say(
            f"{task.metric} {best[task.metric]:.4f} after epoch {best['epoch']:g}; {folder / 'best.ckpt'}, results.json"
        )


@app.command()
def validate(
    checkpoint: Annotated[Path, typer.Argument(help="best.ckpt or last.ckpt of a run.")], changes: Changes = None
) -> None:
    """Score a checkpoint on its validation data, or on those that data.root= names."""
    _require(checkpoint)
    with working(f"validating {checkpoint}", bar=False, first=LIBRARIES):
        from dualvit.recipes.run import validate as run_validate

        found = run_validate(checkpoint, changes or ())
    for name, value in found.items():
        say(f"{name} {value:.4f}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="best.ckpt or last.ckpt of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions and pictures.")] = Path("runs/predict"),
) -> None:
    """Write what a checkpoint says of images: JSON and pictures. Images that cannot be read are skipped, and listed."""
    _require(checkpoint)
    with working(f"predicting with {checkpoint}", bar=False, first=LIBRARIES):
        from dualvit.recipes.run import predict as run_predict

        for line in run_predict(checkpoint, images, out):
            say(line)
    say(f"predictions in {out}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="best.ckpt or last.ckpt of a run.")],
    target: Annotated[Path, typer.Argument(help="Where the .safetensors file goes.")],
) -> None:
    """Write a checkpoint's backbone for timm (checkpoint_path=) and YOLO (weights=)."""
    _require(checkpoint)
    with working(f"exporting {checkpoint}", bar=False, first=LIBRARIES):
        from dualvit.recipes.run import export as run_export

        count, missing, options = run_export(checkpoint, target)
    say(f"{count} entries in {target}")
    if missing:
        say(f"without {len(missing)} of the whole network, which this backbone has none of, such as {missing[0]}")
    else:
        say(f"timm.create_model(..., checkpoint_path=...) takes {', '.join(f'{k}={v!r}' for k, v in options.items())}")


def _require(checkpoint: Path) -> None:
    """Check for a run's checkpoint, and go on with memory kept."""
    with before_torch():
        from dualvit.recipes.checks import require_run_checkpoint

        require_run_checkpoint(checkpoint)
    keep_memory()


def say(line: str) -> None:
    """A line as it is: no colours by content, no line breaks."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
