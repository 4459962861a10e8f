"""The command `dualvit pretrain`: a start for fine-tuning, out of pictures without labels."""

from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import Changes, before_torch, importing, keep_memory, say


def pretrain(
    pictures: Annotated[
        str, typer.Argument(metavar="PATH", help="Folder of pictures, data.yaml, shards, or the word formulas.")
    ],
    student: Annotated[str, typer.Option(help="The network that learns: any timm model with maps.")] = "dualvit_n",
    teacher: Annotated[str, typer.Option(help="The network whose maps it learns: any timm model with maps.")] = "",
    weights: Annotated[Path | None, typer.Option(help="File of the teacher's weights; none are downloaded.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the run by the clock; 15 if left out.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Length in epochs of at least 1,000 pictures: fewer come several times.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Of the teacher's weights; written into the student's file.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/pretrain/STUDENT if left out.")] = None,
    report: Annotated[bool, typer.Option(help="End in report.html in the run's folder.")] = True,
    changes: Changes = None,
) -> None:
    """Let a network learn what a teacher sees in pictures, without labels, as a start for fine-tuning.

    The run ends in OUT/STUDENT.safetensors, which weights= of YOLO, network.weights of recipes and timm's
    checkpoint_path take. The same command goes on with a run that was stopped.
    """
    said = [f"data.root={pictures}", f"network.name={student}", *(changes or ())]
    folder = out or Path("runs") / "pretrain" / Path(student).stem
    with before_torch():
        from dualvit.recipes.checks import require_files, require_known
        from dualvit.recipes.pretrain.config import YOLO_FILES, settings

        asked = (said, teacher, weights, minutes, epochs, licence)
        require_known(recipe := settings(*asked))
        require_files(recipe)
        recipe.require()
    with importing():
        keep_memory()
        from dualvit.recipes.pretrain.config import settings as settings_again  # of the types of the imported package
        from dualvit.recipes.pretrain.run import pretrain as run

        if Path(student).suffix in YOLO_FILES or Path(teacher).suffix in YOLO_FILES:
            import dualvit.yolo.pretrain  # noqa: F401  (makes the names known)

    for line in run(settings_again(*asked), folder, report):
        say(line)
