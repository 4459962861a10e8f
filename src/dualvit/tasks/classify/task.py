"""Image classification in training: the loss, and top-1."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from dualvit.tasks.build import build_network
from dualvit.tasks.classify.config import ClassifyRecipe
from dualvit.tasks.task import Task


class Classify(Task):
    """A timm classifier."""

    metric = "top1"
    recipe: ClassifyRecipe

    def __init__(self, recipe: ClassifyRecipe, classes: tuple[str, ...]) -> None:
        super().__init__(recipe, classes, build_network(recipe.network, num_classes=len(classes)))
        self.top1 = MeanMetric()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        images, labels = batch
        smoothing = self.recipe.augment.label_smoothing
        return {"class": F.cross_entropy(self.network(images), labels, label_smoothing=smoothing)}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.top1.update(self.network(images).argmax(1) == labels)

    def scores(self) -> Mapping[str, float]:
        score = float(self.top1.compute())
        self.top1.reset()
        return {"top1": score}
