"""The commands `dualvit recipe ...`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dualvit_cli.shared import (
    LIBRARIES,
    Changes,
    Command,
    before_torch,
    console,
    importing,
    keep_memory,
    say,
    working,
)

app = typer.Typer(
    no_args_is_help=True, help="The paper's recipes, and small ones: list, show, fit, validate, predict, export."
)
RecipeName = Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")]
Checkpoint = Annotated[Path, typer.Argument(help="best.ckpt or last.ckpt of a run.")]


@app.command("list", cls=Command)
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
    say("dualvit recipe show NAME prints the settings; fit NAME --set data.root=FOLDER trains.")


def _published(scores: dict[str, float]) -> str:
    """The paper's scores of a row in a few letters: box AP before that of masks."""
    return f"{' / '.join(map(str, scores.values()))} {list(scores)[-1]}" if scores else ""


@app.command(cls=Command)
def show(recipe: RecipeName, changes: Changes = None) -> None:
    """Print a recipe in full, each setting with its meaning, as YAML that `fit` takes."""
    with before_torch():
        from dualvit.recipes.checks import require_known
        from dualvit.recipes.config import load_recipe
        from dualvit.recipes.show import commented

        loaded = load_recipe(recipe, changes or ())
        require_known(loaded)
        print(commented(loaded), end="")


@app.command(cls=Command)
def fit(
    recipe: RecipeName,
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE where left out.")] = None,
    report: Annotated[bool, typer.Option(help="End in report.html in the run's folder.")] = True,
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
    if task.global_rank:
        return
    if best is None:  # who sets trainer.limit_val_batches=0 wants none
        say(f"no epoch was validated; {folder / 'last.ckpt'}, results.json")
    else:
        score = f"{task.metric} {best[task.metric]:.4f} after epoch {best['epoch']:g}"
        say(f"{score}; {folder / 'best.ckpt'}, results.json")
    if report:
        from dualvit.recipes.report import write_report

        if file := write_report(task, folder):
            say(f"report {file}")


@app.command(cls=Command)
def validate(checkpoint: Checkpoint, changes: Changes = None) -> None:
    """Score a checkpoint on its validation data, or on the data set that --set data.root=FOLDER names."""
    _require(checkpoint)
    with working(f"validating {checkpoint}", bar=False, first=LIBRARIES):
        from dualvit.recipes.run import validate as run_validate

        scores = run_validate(checkpoint, changes or ())
    for name, value in scores.items():
        say(f"{name} {value:.4f}")


@app.command(cls=Command)
def predict(
    checkpoint: Checkpoint,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions and pictures.")] = Path("runs/predict"),
) -> None:
    """Write predictions for images: JSON and pictures. Images that cannot be read are skipped, and listed."""
    _require(checkpoint)
    with working(f"predicting with {checkpoint}", bar=False, first=LIBRARIES):
        from dualvit.recipes.run import predict as run_predict

        for line in run_predict(checkpoint, images, out):
            say(line)
    say(f"predictions in {out}")


@app.command(cls=Command)
def export(
    checkpoint: Checkpoint,
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
