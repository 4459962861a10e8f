"""`predictions.json` of a cell: what its last weights say of each picture that is scored, and COCO's AP of it."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from dualvit.compare.experiment import Experiment
from dualvit.compare.results import read
from dualvit.errors import InputError
from dualvit.files import write_atomic
from dualvit.report.predictions import Predictions

NAME, VERSION = "predictions.json", 1
SCORER = "faster_coco_eval"
REMEDY = "delete it, and the report goes without the cell's pictures"
COCO_TASKS = {("yolo", "detect"): "bbox", ("yolo", "segment"): "segm"}  # whose own score is not COCO's
COCO_HEADS = {"detect": "COCO AP", "segment": "COCO mask AP"}


def write_predictions(folder: Path, experiment: Experiment, data: str, content: dict[str, Any]) -> None:
    """Write what an engine's network says of each picture, one object a line.

    Args:
        folder: Of the cell.
        experiment: Says the task and the split.
        data: The data set's place.
        content: Images, categories, and annotations or answers, as an engine gives them.
    """
    base = base_of(data)
    head = {"version": VERSION, "task": experiment.task, "split": experiment.score}
    images = [image | {"file": relative(Path(image["file"]), base)} for image in content["images"]]
    lists = {"categories": content["categories"], "images": images}
    lists |= {key: content[key] for key in ("annotations", "answers") if key in content}
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in lists.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
    write_atomic(folder / NAME, "{" + ",\n".join(parts) + "}\n")


def read_predictions(folder: Path, experiment: Experiment) -> Predictions | None:
    """Read what a cell's network says; None if the cell has kept nothing.

    Raises:
        ValueError: the file is damaged, of another version, or of another experiment.
        OSError: it cannot be read.
    """
    file = folder / NAME
    found = read(Predictions, file, REMEDY)
    if found is None:
        return None
    for what, there, here in (("task", found.task, experiment.task), ("split", found.split, experiment.score)):
        if there != here:
            raise InputError(f"{file} is of {what} {there}, and the experiment's is {here}; {REMEDY}")
    numbers, images = [one.id for one in found.categories], {image.id for image in found.images}
    if sorted(numbers) != list(range(len(numbers))) or len(images) < len(found.images):
        raise InputError(f"{file} has classes that are not numbered from 0, or pictures of one number; {REMEDY}")
    spoken = {row.image_id for row in found.annotations} | {row.image_id for row in found.answers}
    if spoken - images:
        raise InputError(f"{file} speaks of picture {min(spoken - images)}, which it does not list; {REMEDY}")
    if (most := max((row.category_id for row in found.annotations), default=-1)) >= len(numbers):
        raise InputError(f"{file} has class {most}, and lists {len(numbers)}; {REMEDY}")
    return found


def base_of(data: str) -> Path:
    """Return the folder that names of pictures begin at: the data set's own, or that of its data.yaml."""
    place = Path(data).absolute()
    return place.parent if place.suffix.lower() in (".yaml", ".yml") and not place.is_dir() else place


def relative(file: Path, base: Path) -> str:
    """Return a picture's name from a folder on, or its path if it lies elsewhere.

    Example:
        >>> relative(Path("/data/images/a.png"), Path("/data")), relative(Path("/b.png"), Path("/data"))
        ('images/a.png', '/b.png')
    """
    place = Path(os.path.normpath(file.absolute()))
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else place.as_posix()


def coco_scores(experiment: Experiment, content: dict[str, Any], truth: Any) -> dict[str, float]:
    """Return COCO's AP, AP50, AP75 and those by size; none of what has no objects, and of tasks that have no such AP.

    Args:
        experiment: Says the task.
        content: What an engine's network says.
        truth: What is really in the pictures, a `dualvit.data.coco.Coco`.
    """
    what = COCO_TASKS.get((experiment.engine, experiment.task))
    if what is None or importlib.util.find_spec(SCORER) is None:
        return {}
    from dualvit.recipes.detect.evaluate import average_precision

    numbers = [image["id"] for image in content["images"]]
    rows = [row for row in content["annotations"] if what == "bbox" or "segmentation" in row]
    scores = average_precision(truth.truth, rows, numbers, what)
    return {name: value for name, value in scores.items() if value >= 0}
