"""The page that a run of a recipe ends in: curves, scores, the best and the worst predictions."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image

from dualvit.data.images import open_rgb
from dualvit.errors import line_of
from dualvit.explain.examples import ASKED as EXAMPLES
from dualvit.explain.examples import examples
from dualvit.locks import only_writer
from dualvit.names import is_shards
from dualvit.provenance import environment
from dualvit.recipes.config import plain
from dualvit.recipes.explained import open_recipe
from dualvit.recipes.loading import Reproducible, Skipped, TaskData
from dualvit.recipes.predictions import unchanged
from dualvit.recipes.progress import PLACE, clock
from dualvit.recipes.run import best_row, load
from dualvit.recipes.task import Task
from dualvit.report.drawing import classified, segmented
from dualvit.report.gallery import Asked, few, shown
from dualvit.report.page import Part, Table, Words
from dualvit.report.predictions import Answer, Found, Shown
from dualvit.report.training import LIMITS, Curve, Training, in_words, of_data, short, took, training_page

NAMES = {"top1": "top-1", "top5": "top-5", "miou": "mean IoU", "pixel_accuracy": "pixel accuracy"}
SIZES = ("APs", "APm", "APl")  # not in the curves: -1 if there is no such object
FIRST = (
    "task", "network.name", "network.weights", "teacher.name", "data.root", "data.image_size",
    "data.short_side", "data.batch", "detector", "optimizer.name", "optimizer.lr", "optimizer.weight_decay",
    "schedule.epochs", "schedule.steps", "schedule.minutes", "ema", "seed",
)  # fmt: skip
OF_PRETRAINING = (
    "The score says how much of its teacher, or of the formulas, the student explains. It does not say what the start "
    "is worth on your task: train on it and without it, and compare.",
    "One training says nothing about chance.",
)


def write_report(task: Task, out: Path, told: Sequence[str] = ()) -> Path | None:
    """Write report.html into a run's folder; what goes wrong is a line, and nothing else.

    Args:
        task: Of `fit`, in the first process.
        out: The run's folder.
        told: What the command says of its outcome, a line each.

    Returns:
        The file; None if it could not be written.
    """
    try:
        with only_writer(out, "dualvit recipe fit"):
            return training_page(training_of(task, out, told)).write(out)
    except Exception as error:  # a finished training never fails for its page
        print(f"warning: report.html was not written: {line_of(error, 240)}", file=sys.stderr, flush=True)
        return None


def training_of(task: Task, out: Path, told: Sequence[str] = ()) -> Training:
    """Return what the page of a run shows."""
    recipe, trainer, learns = task.recipe, task.trainer, task.recipe.task == "pretrain"
    row = task.history[-1] if learns else best_row(task)  # a student's file is of the last epoch
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    cuda = trainer.strategy.root_device.type == "cuda"
    parts, lines = ([], []) if learns else _predictions(task, data, out / "best.ckpt")
    explained, unexplained = _explanations(task, data, out / "best.ckpt")
    settings = _flat(plain(recipe))
    return Training(
        what="dualvit pretrain" if learns else "dualvit recipe fit",
        title=f"{recipe.network.name} on {of_data(recipe.data.root)}",
        result=_result(task, row, told), tiles=_tiles(task, row), history=task.history, curves=_curves(task),
        best=None if row is None or learns else row["epoch"], predictions=parts,
        explanations=explained,
        results=[*_results(task, row), *([Words(told[1:], "points")] if told else [])],
        settings=[pair for pair in settings if pair[0] in FIRST and pair[1] not in ("none", "")], every=settings,
        environment=environment(cuda), origin=[("given in", str(Path.cwd())), ("folder", str(out))],
        limits=OF_PRETRAINING if learns else LIMITS, lines=[*lines, *unexplained, *data.notes, *data.skipped.lines()],
    )  # fmt: skip


def _result(task: Task, row: Mapping[str, float] | None, told: Sequence[str]) -> str:
    if told:
        return told[0]
    if row is None:
        return f"No epoch was validated, of {len(task.history)}."
    epochs = f"epoch {row['epoch']:g} of {task.history[-1]['epoch']:g}"
    return f"{_named(task.metric)} of best.ckpt: {_score(task, row)} on the validation pictures, after {epochs}."


def _tiles(task: Task, row: Mapping[str, float] | None) -> list[tuple[str, str]]:
    millions = sum(one.numel() for one in task.network.parameters()) / 1e6
    last = "last epoch" if task.recipe.task == "pretrain" else "best epoch"
    score = [(_score(task, row), _named(task.metric)), (f"{row['epoch']:g}", last)] if row else []
    time = clock(task.trainer).time_elapsed()
    return [*score, (took(time), "of training"), (f"{millions:.2f} M", "parameters")]


def _score(task: Task, row: Mapping[str, float]) -> str:
    value = row[task.metric]
    return f"{value:.3f}" if task.metric == "cosine" else f"{100 * value:.1f} %"


def _curves(task: Task) -> list[Curve]:
    """The scores that are comparable, and the loss; those of each class are in the table alone."""
    row = task.history[-1] if task.history else {}
    hidden = (*PLACE, "loss", *SIZES)
    scores = [name for name in row if name.removeprefix("box_") not in hidden and "/" not in name]
    percent = task.metric != "cosine"
    groups: dict[str, dict[str, str]] = {"Scores": {}, "Scores of boxes": {}}
    for name in scores:
        group = "Scores of boxes" if name.startswith("box_") else "Scores"
        groups[group][_named(name.removeprefix("box_"))] = name
    curves = [Curve(title, lines, percent) for title, lines in groups.items() if lines]
    return [*curves, Curve("Loss in training", {"loss": "loss"})]


def _results(task: Task, row: Mapping[str, float] | None) -> list[Table]:
    """The scores of the best epoch, and of each class if they are known."""
    if row is None:
        return []
    percent = task.metric != "cosine"
    known = {name: value for name, value in row.items() if name not in (*PLACE, "loss")}
    whole = [[_named(name), _number(value, percent)] for name, value in known.items() if "/" not in name]
    note = f"{'In percent, of' if percent else 'Of'} epoch {row['epoch']:g}, on the validation pictures."
    tables = [Table(["score", "value"], whole, note=note)]
    classes = [[name.partition("/")[2], _number(value, percent)] for name, value in known.items() if "/" in name]
    return [*tables, Table(["class", "IoU"], classes)] if classes else tables


def _number(value: float, percent: bool) -> str:
    """A score as a reader sees it; that of a class that does not occur is NaN, of a size -1."""
    if value != value or (percent and value < 0):
        return "none"
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def _named(name: str) -> str:
    return NAMES.get(name, name)


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Settings by their dotted names."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += _flat(value, f"{path}{name}.")
        else:
            pairs.append((f"{path}{name}", in_words(value)))
    return pairs


def _predictions(task: Task, data: TaskData, checkpoint: Path) -> tuple[list[Part], list[str]]:
    """The pictures of predictions; or a line on why there are none."""
    if is_shards(task.recipe.data.root):
        return [], ["No predictions are shown: shards are read in their order, and no few of their pictures."]
    if not checkpoint.exists():
        return [], ["No predictions are shown: there is no best.ckpt."]
    return shown(lambda: asked(task, data, checkpoint))


def _explanations(task: Task, data: TaskData, checkpoint: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Explanations of a few validation pictures, of classes or boxes; and lines on what is not explained."""
    if task.recipe.task not in ("classify", "detect") or is_shards(task.recipe.data.root) or not checkpoint.exists():
        return [], []
    files = data.val_files()
    return examples(lambda: open_recipe(checkpoint), [files[number] for number in few(len(files), most=EXAMPLES)])


@torch.inference_mode()
def asked(task: Task, data: TaskData, checkpoint: Path) -> Asked:
    """Ask a checkpoint about a few of the pictures that its run was validated on.

    No trainer is at work here: other processes of the run may be gone.

    Args:
        task: Of the run.
        data: Of the run.
        checkpoint: What is asked.
    """
    device, there = task.trainer.strategy.root_device, load(checkpoint).to(task.trainer.strategy.root_device)
    samples, files = data.val_data(), data.val_files()
    reader = Reproducible(samples, task.recipe.seed, Skipped(None, len(files)), substitute=False)
    told = Asked(task.recipe.task, task.classes, len(files))
    pictures = data.val.pictures if told.task == "detect" else ()  # type: ignore[attr-defined]
    for number in few(len(files)):
        sample = reader[0, number]
        if sample is None:
            continue
        batch = move_data_to_device(data.collate([sample]), device)
        (row,) = there.said(there.validation_step(batch, 0))
        if pictures:
            picture = pictures[number]
            told.images.append(Shown(picture.id, short(files[number]), picture.width, picture.height))
            told.places[picture.id] = picture
            told.found += [Found(**one) for one in row["objects"]]
        else:
            told.images.append(Shown(number, short(files[number])))
            told.answers.append(Answer(number, **row))
    if told.task == "classify":
        told.panel = lambda number, answer: classified(open_rgb(files[number]), answer)
    elif told.task == "semantic":
        whole, ignore = unchanged(samples), task.recipe.data.ignore_index  # type: ignore[attr-defined]

        def panel(number: int, answer: Answer) -> Image.Image:
            pixels, mask = whole[number]
            return segmented(pixels, mask, answer.map, task.classes, ignore)

        told.panel = panel
    return told
