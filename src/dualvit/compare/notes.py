"""What a reader must know of a report's figures, a paragraph each."""

from dualvit.compare.latency import NOTE
from dualvit.compare.predictions import COCO_HEADS, COCO_TASKS

NOTES = (
    "The accuracy is that of the last epoch, on the validation pictures; ± is the sample standard deviation over "
    "seeds. `best` is the best epoch's, which is chosen on the same pictures and so flatters every model.",
    "Differences are taken seed by seed; their interval is Student's t, made wider for the number of comparisons by "
    "Holm's method: in 20 such reports on equal models one false winner is expected. If the reference was not named "
    "beforehand, all pairs count as compared. The intervals speak of chance in training, not of other data.",
    "Multiply-adds are of one picture at the experiment's size; those of Mask R-CNN depend on what it sees. Latency "
    'is the median of one picture\'s forward pass in eager, the models in turn, on the machine of "latency on".',
)

ONE_RATE = (
    "Models without settings of their own have one learning rate. A difference says as much of which model that "
    "rate suits as of the models: give `sweep: true`, and each has its own. In YOLO, dualvit's pyramids and C2f blocks "
    "take 8 times the rate from scratch."
)
SWEPT = (
    "Each model's learning rate is the best of those tried, with one seed, on a part of the training pictures; the "
    "validation pictures had no part in the choice."
)
EDGE = {
    "detect": "COCO's boxes end at the picture's edge, beyond which Ultralytics' may reach",
    "segment": "COCO compares masks at the picture's size, and Ultralytics in training at a quarter of it",
}


def paragraphs(engine: str, task: str, tests: bool, coco: bool, swept: bool, timed: bool) -> list[str]:
    """Return the paragraphs of a report.

    Args:
        engine, task: Of the experiment.
        tests: Whether the accuracy is that of the test split.
        coco: Whether COCO's AP is known.
        swept: Whether each model has a rate of its own.
        timed: Whether latency was measured in several runtimes.
    """
    first, *others = NOTES
    if tests:
        first = first.replace("on the validation pictures", "on the test split").replace("`best`", "`best on val`")
        first = first.replace("chosen on the same pictures and so flatters every model", "of the validation split")
    rates = SWEPT if swept else ONE_RATE
    return [first, *coco_notes(engine, task, coco), *others, rates, *([NOTE] if timed else [])]


def coco_notes(engine: str, task: str, known: bool) -> list[str]:
    """Return why COCO's AP and YOLO's own score differ, or why it is not `known`; nothing of other tasks."""
    if (engine, task) not in COCO_TASKS:
        return []
    if not known:
        return [
            "COCO AP is left out: it needs faster-coco-eval when a cell is trained, which dualvit[recipes] brings, and "
            "cells of earlier versions do not have it."
        ]
    return [
        f"{COCO_HEADS[task]} is of the same predictions, by faster-coco-eval. Both scores average ten IoUs and 101 "
        f"points of recall, but {EDGE[task]}; and COCO takes the best precision at a recall or beyond, of at most 100 "
        "objects per class and picture, where Ultralytics draws straight lines between the measured points."
    ]
