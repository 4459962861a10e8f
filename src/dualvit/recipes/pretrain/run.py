"""A run of pretraining from beginning to end: fit, and the student's file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualvit.recipes.network import weights_file
from dualvit.recipes.pretrain.config import PretrainRecipe
from dualvit.recipes.run import fit
from dualvit.seeds import seed_all


def pretrain(recipe: PretrainRecipe, out: Path, report: bool = False) -> Iterator[str]:
    """Train a student, or go on where its run stopped, and write `STUDENT.safetensors` in the run's folder.

    Args:
        recipe: The settings.
        out: The folder of the run, see `dualvit.recipes.run.fit`.
        report: End in report.html in the folder.

    Yields:
        What the file holds, in lines.

    Raises:
        ValueError: nothing to learn from, or `out` holds a run of other settings, another teacher or other pictures.
        OSError: `out` cannot be written.
    """
    task = fit(recipe, out)
    if task.global_rank:
        return
    recipe = task.recipe  # type: ignore[assignment]  # with the digests
    teacher, row = recipe.teacher, task.history[-1]
    about = {
        "source": "dualvit pretrain", "teacher": teacher.name, "teacher_sha256": teacher.sha256,
        "licence": teacher.licence or "not stated", "pictures": str(recipe.data.pictures),
        "pictures_sha256": recipe.data.digest, "scores": json.dumps(row), "seed": str(recipe.seed),
    }  # fmt: skip
    student: Any = task.network
    seed_all(str(recipe.seed))
    target = out / f"{Path(recipe.network.name).stem}.safetensors"
    written = student.maps.write(student.features, target, weights_file(recipe.network), about)
    scores = ", ".join(
        f"{name} {value:.3f}" for name, value in row.items() if name.startswith(("cosine", "semantics", "top1"))
    )
    source = f"the maps of {teacher.name}" if teacher.name else f"{recipe.data.classes} formulas"
    example = f", such as {written.rest[0]}" if written.rest else ""
    told = [
        f"{recipe.network.name} learnt {source}: {scores}",
        f"{len(written.learnt)} entries are learnt, {len(written.rest)} are as initialised{example}",
        f"{target}; {written.use}",
    ]
    yield from told
    if report:
        from dualvit.recipes.report import write_report

        if file := write_report(task, out, told):
            yield f"report {file}"
