"""A trained model that is asked what it sees: a checkpoint of a recipe, or of YOLO, which is imported here alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from dualvit.data.images import UnreadableError, open_rgb
from dualvit.doctor.doubts import Doubt, Seen, ranked_boxes, ranked_classes
from dualvit.doctor.sets import DataSet, Item
from dualvit.errors import InputError

LEAST = 0.001  # score from which a prediction counts: a label that the model hardly sees is not one that it never saw
MOST = 1000  # objects in a picture
SHOWN = 500  # doubts of each list that a report holds
Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]


class Witness(Protocol):
    """A model that tells what it sees in a picture.

    Attributes:
        task: detect, segment, classify or semantic.
        classes: Their names.
    """

    task: str
    classes: tuple[str, ...]

    def objects(self, file: Path) -> tuple[Array, Array, Array]:
        """Return the objects of a picture, of a detector: boxes (M, 4) in pixels, classes (M,) and scores (M,)."""

    def probabilities(self, file: Path) -> Array:
        """Return the probability of each class, (C,), of a classifier."""


class RecipeWitness:
    """A checkpoint of `dualvit recipe fit`.

    Raises:
        ValueError: it is no checkpoint of a classifier or a detector.
    """

    def __init__(self, checkpoint: Path) -> None:
        from dualvit.recipes.run import load

        self.network: Any = load(checkpoint)
        self.task, self.classes = self.network.recipe.task, self.network.classes
        if self.task not in ("classify", "detect"):
            raise InputError(f"{checkpoint} is a model for {self.task}; give one of a classifier or a detector")
        if self.task == "detect":  # the recipe leaves out what AP does not need
            self.network = load(checkpoint, (f"head.score={LEAST}", f"head.detections={MOST}"))

    @torch.inference_mode()
    def objects(self, file: Path) -> tuple[Array, Array, Array]:
        """Return boxes (M, 4) in pixels, classes (M,) and scores (M,)."""
        from dualvit.recipes.detect.data import read_picture

        found = self.network.network([read_picture(file).float() / 255])[0]
        return found["boxes"].numpy(), found["labels"].numpy(), found["scores"].float().numpy()

    @torch.inference_mode()
    def probabilities(self, file: Path) -> Array:
        """Return the probability of each class, (C,)."""
        from dualvit.backbones.maps import moments
        from dualvit.recipes.classify.transforms import eval_transform

        data, network = self.network.recipe.data, self.network.network
        transform = eval_transform(data.image_size, data.crop_pct, *moments(network))
        return network(transform(open_rgb(file))[None]).softmax(1)[0].float().numpy()


def open_witness(checkpoint: Path, image_size: int | None) -> Witness:
    """Open a checkpoint: .ckpt of a recipe, .pt or .safetensors of YOLO.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be used.
    """
    if checkpoint.suffix == ".ckpt":
        return RecipeWitness(checkpoint)
    from dualvit.yolo.witness import YoloWitness

    return YoloWitness(checkpoint, image_size, LEAST, MOST)


def doubts_of(witness: Witness, data: DataSet, items: Sequence[Item], progress: Progress) -> dict[str, Any]:
    """Ask a model about each picture, and rank the labels that it doubts.

    Args:
        witness: The model.
        data: The data set.
        items: The pictures, those that can be read, with objects in pixels.
        progress: Is told how many are done, and of how many.

    Returns:
        As JSON holds it: `labels`, and for objects `overlooked`; how many labels were ranked.

    Raises:
        ValueError: the model is for another task, or for other classes.
    """
    if (witness.task == "classify") != (data.task == "classify"):
        raise InputError(f"the model is for {witness.task}, and the data set for {data.task}; give a model of its task")
    if witness.classes != data.classes:
        raise InputError(
            f"the model knows {', '.join(witness.classes[:5])} ({len(witness.classes)}), and the data set has "
            f"{', '.join(data.classes[:5])} ({len(data.classes)}); give a model that was trained for these classes"
        )
    if data.task == "classify":
        rows = np.full((len(items), len(data.classes)), np.nan)
        for number, item in enumerate(items):
            rows[number] = _asked(witness.probabilities, item.file, rows[number])
            progress(number + 1, len(items))
        doubts = ranked_classes(np.array([item.label for item in items]), rows)
        chosen = [one for one in doubts if one.kind == "swapped"][:SHOWN]
        return {"ranked": len(doubts), "labels": [_plain(one, data, items) for one in chosen]}
    seen, nothing = [], (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    for number, item in enumerate(items):
        seen.append(Seen(*_asked(witness.objects, item.file, nothing)))
        progress(number + 1, len(items))
    boxes = [np.array([thing.box for thing in item.things]).reshape(-1, 4) for item in items]
    labels = [np.array([thing.label for thing in item.things], int) for item in items]
    doubts, overlooked = ranked_boxes(boxes, labels, seen)
    return {
        "ranked": len(doubts),
        "labels": [_plain(one, data, items) for one in doubts[:SHOWN]],
        "overlooked": [_plain(one, data, items) for one in overlooked[:SHOWN]],
    }


def _asked(ask: Callable[[Path], Any], file: Path, otherwise: Any) -> Any:
    try:
        return ask(file)
    except UnreadableError:
        return otherwise


def _plain(doubt: Doubt, data: DataSet, items: Sequence[Item]) -> dict[str, Any]:
    """A doubt with the names of its picture and its classes."""
    item = items[doubt.picture]
    thing = item.things[doubt.label] if doubt.label is not None else None
    label = thing.label if thing is not None else item.label
    return {
        "file": str(item.file), "split": item.split, "kind": doubt.kind, "confidence": round(doubt.confidence, 4),
        "place": f"{item.source}, {thing.place}" if thing is not None else "",
        "label": None if label is None else data.classes[label],
        "sees": None if doubt.suggestion is None else data.classes[doubt.suggestion],
        "box": None if thing is None else [round(float(value), 1) for value in thing.box],
        "seen_box": None if doubt.box is None else [round(value, 1) for value in doubt.box],
    }  # fmt: skip
