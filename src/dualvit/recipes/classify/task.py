"""Image classification in training: the loss, top-1 and top-5, and pictures of what it predicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from dualvit.backbones.maps import moments
from dualvit.data.images import open_rgb
from dualvit.data.label_maps import crop
from dualvit.errors import InputError
from dualvit.pictures.captions import captioned
from dualvit.recipes.classify.config import ClassifyRecipe
from dualvit.recipes.classify.network import build_classifier
from dualvit.recipes.classify.token_labels import check_network, smoothed, token_logits, token_loss
from dualvit.recipes.classify.transforms import eval_transform
from dualvit.recipes.task import Task

KEPT = 5  # classes that are kept of a prediction, besides the right one


class Classify(Task):
    """A timm classifier."""

    metric = "top1"
    recipe: ClassifyRecipe

    def __init__(self, recipe: ClassifyRecipe, classes: tuple[str, ...]) -> None:
        super().__init__(recipe, classes, build_classifier(recipe.network, len(classes)))
        if recipe.token_labels is not None:
            check_network(self.network, recipe.network.name)
        mix, smoothing = recipe.mix, recipe.augment.label_smoothing
        self.mixup = None
        if recipe.mixes:
            self.mixup = Mixup(
                mix.mixup, mix.cutmix, prob=mix.probability, switch_prob=mix.switch, label_smoothing=smoothing,
                num_classes=len(classes),
            )  # fmt: skip
        self.soft = SoftTargetCrossEntropy()
        count = len(classes)
        self.top1 = MulticlassAccuracy(count, average="micro")
        self.top5 = MulticlassAccuracy(count, top_k=min(5, count), average="micro")

    def loss(self, batch: Any) -> Mapping[str, Tensor]:
        images, labels, *maps = batch
        images = images.contiguous(memory_format=torch.channels_last)
        smoothing = self.recipe.augment.label_smoothing
        if self.recipe.token_labels is not None:
            return self._token_loss(images, smoothed(labels, len(self.classes), smoothing), maps[0])
        if self.mixup is None:
            return {"class": F.cross_entropy(self.network(images), labels, label_smoothing=smoothing)}
        if len(images) % 2:
            raise InputError(
                f"mixup pairs pictures, and a batch of one process has {len(images)}; give an even data.batch, no "
                "larger than the data set, or mix.mixup=0 and mix.cutmix=0"
            )
        mixed, target = self.mixup(images.clone(), labels)  # it works in place, and a NaN's culprit needs the original
        return {"class": self.soft(self.network(mixed), target)}

    def _token_loss(self, images: Tensor, target: Tensor, maps: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        settings = self.recipe.token_labels
        assert settings is not None
        mixes = settings.probability == 1 or np.random.rand() < settings.probability
        outputs = token_logits(self.network, images, settings.beta if mixes else 0.0)
        size = (outputs[1].shape[1], outputs[1].shape[2])
        dense = crop(maps["scores"], maps["classes"], maps["boxes"], maps["flipped"], len(self.classes), size)
        smoothing = self.recipe.augment.label_smoothing
        dense = dense * (1 - smoothing) + smoothing / len(self.classes)
        return token_loss(outputs, target, dense, settings.dense_weight, settings.class_weight)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor] | None:
        if batch is None:  # none of its pictures could be read
            return None
        images, labels = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        self.top1.update(logits, labels)
        self.top5.update(logits, labels)
        return {"probabilities": logits.softmax(1), "labels": labels}

    def said(self, outputs: Any) -> list[dict[str, Any]]:
        best = outputs["probabilities"].float().cpu()
        rows = []
        for row, label in zip(best, outputs["labels"].tolist(), strict=True):
            top = row.topk(min(KEPT, len(row)))
            shares = {self.classes[int(index)]: round(float(share), 5) for share, index in zip(*top, strict=True)}
            rows.append({"name": self.classes[label], "right": round(float(row[label]), 5), "best": shares})
        return rows

    def scores(self) -> Mapping[str, float]:
        scores = {"top1": float(self.top1.compute()), "top5": float(self.top5.compute())}
        self.top1.reset()
        self.top5.reset()
        return scores

    def predict_one(self, file: Path, out: Path, name: str, content: dict[str, list[Any]]) -> str:
        """Write the five best classes of a picture, as JSON and on the picture."""
        image, settings = open_rgb(file), self.recipe.data
        transform = eval_transform(settings.image_size, settings.crop_pct, *moments(self.network))
        scores = self.network(transform(image)[None].to(self.device)).softmax(1)[0]
        best = scores.topk(min(5, len(self.classes)))
        classes = [(self.classes[int(index)], float(score)) for score, index in zip(*best, strict=True)]
        picture = out / f"{name}.png"
        content["predictions"].append({"image": str(file), "picture": picture.name, "classes": dict(classes)})
        captioned(image, classes).save(picture)
        return f"{', '.join(f'{name} {score:.3f}' for name, score in classes[:3])}; {picture}"
