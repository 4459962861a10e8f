"""The networks of recipes as they are explained: torchvision's detectors, and classifiers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.backbones.maps import moments
from dualvit.errors import InputError
from dualvit.explain.subject import CONFIDENCE, Answers, Classifier, Found, Subject, View, as_tensor, boxes_of
from dualvit.recipes.run import load


class RecipeDetector:
    """RetinaNet or Mask R-CNN of `dualvit recipe fit`: images between 0 and 1, which it resizes by itself."""

    detects = True

    def __init__(self, task: Any) -> None:
        self.network: nn.Module = _Detector(task.network).eval()
        self.classes = tuple(task.classes)
        data = task.recipe.data
        self.short, self.long = data.sides[-1], data.long_side  # of several sides, validation takes the last

    def view(self, picture: Image.Image) -> View:
        """Shrink a picture to the size that the detector works at."""
        width, height = picture.size
        factor = min(1.0, self.short / min(width, height), self.long / max(width, height))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
        return View(as_tensor(small), (0, 0, *size), picture.size)

    def answers(self, outputs: Any) -> list[Answers]:
        """Read what is left after suppression: a score per box, and 0 for the other classes."""
        found = []
        for row in outputs:
            classes = F.one_hot(row["labels"], len(self.classes)).to(row["scores"])
            scores = row["scores"].clamp(1e-6, 1 - 1e-6)
            found.append(Answers(row["boxes"], scores[:, None] * classes, scores.logit()[:, None] * classes))
        return found

    def found(self, answers: Answers, confidence: float = CONFIDENCE) -> list[Found]:
        """Return the boxes above a confidence."""
        return boxes_of(answers, self.classes, confidence, suppress=False)

    def masks(self, outputs: Any, found: Sequence[Found]) -> list[Tensor]:
        """Return Mask R-CNN's masks; RetinaNet has none."""
        masks = outputs[0].get("masks", ())
        return [masks[one.index, 0] - 0.5 for one in found] if len(masks) else []


class _Detector(nn.Module):
    """A recipe's detector that takes a batch as one tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(list(images))


def open_recipe(checkpoint: Path) -> Subject:
    """Open a checkpoint of `dualvit recipe fit`.

    Raises:
        ValueError: it is no checkpoint of a recipe, or not of a classifier or a detector.
    """
    task: Any = load(checkpoint)
    data = task.recipe.data
    if task.recipe.task == "detect":
        return RecipeDetector(task)
    if task.recipe.task == "classify":
        return Classifier(task.network, task.classes, data.image_size, data.crop_pct, moments(task.network))
    raise InputError(
        f"{checkpoint} is a model for {task.recipe.task}; give one of a classifier or a detector, or explain any "
        "number of its outputs with dualvit.explain in Python"
    )
