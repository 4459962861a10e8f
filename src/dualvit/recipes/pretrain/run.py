"""A run of pretraining from beginning to end: fit, and the student's file."""

from collections.abc import Iterator
from pathlib import Path

from dualvit.files import write_atomic
from dualvit.recipes.pretrain.config import PretrainRecipe
from dualvit.recipes.pretrain.network import student_file
from dualvit.recipes.run import fit


def pretrain(recipe: PretrainRecipe, out: Path) -> Iterator[str]:
    """Train a student, or go on where its run stopped, and write `STUDENT.safetensors` in the run's folder.

    Args:
        recipe: The settings.
        out: The folder of the run, see `dualvit.recipes.run.fit`.

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
        "teacher": teacher.name, "teacher_sha256": teacher.sha256, "licence": teacher.licence or "not stated",
        "pictures": recipe.data.pictures, "pictures_sha256": recipe.data.digest, "root": recipe.data.root,
        "scores": row, "seed": recipe.seed,
    }  # fmt: skip
    content, learnt, rest = student_file(recipe, task.network, about)  # type: ignore[arg-type]
    target = out / f"{recipe.network.name}.safetensors"
    write_atomic(target, content)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in row.items() if name.startswith(("cosine", "top1")))
    source = f"the maps of {teacher.name}" if teacher.name else f"{recipe.data.classes} formulas"
    yield f"{recipe.network.name} learnt {source}: {scores}"
    yield f"{len(learnt)} entries are learnt, {len(rest)} are as initialised{f', such as {rest[0]}' if rest else ''}"
    yield f'{target}; YOLO(..., weights="{target}") and timm\'s checkpoint_path take it'
