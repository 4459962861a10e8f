"""Semantic segmentation in training: the loss, mIoU over whole images, and predictions as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision.transforms import v2

from dualvit.data.masks import read_rgb
from dualvit.pictures.masks import small_map, write_prediction
from dualvit.recipes.semantic.config import SemanticRecipe
from dualvit.recipes.semantic.data import ValidationTransform
from dualvit.recipes.semantic.evaluate import class_ious
from dualvit.recipes.semantic.network import Segmenter
from dualvit.recipes.semantic.tiles import enlarged_argmax, slide
from dualvit.recipes.task import Task

Batch = tuple[list[Tensor], list[Tensor]]


class Semantic(Task):
    """UPerNet on a timm backbone."""

    metric = "miou"
    endings = (".json", ".mask.png", ".overlay.png")
    recipe: SemanticRecipe
    network: Segmenter

    def __init__(self, recipe: SemanticRecipe, classes: tuple[str, ...]) -> None:
        super().__init__(recipe, classes, Segmenter(recipe.network, recipe.decoder, len(classes)))
        # Counts of all pixels together: the IoU of a set is no mean of the IoUs of its images.
        self.counts = MulticlassConfusionMatrix(
            len(classes), ignore_index=recipe.data.ignore_index, validate_args=False
        )

    def backbone(self) -> torch.nn.Module:
        return self.network.upernet.encoder.model

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        images, masks = (torch.stack(items) for items in batch)
        weights = {"segment": 1.0, "auxiliary": self.recipe.decoder.auxiliary}
        logits = self.network.training_logits(images.contiguous(memory_format=torch.channels_last))
        ignore = self.recipe.data.ignore_index
        return {name: weights[name] * pixel_loss(values, masks, ignore) for name, values in logits.items()}

    def validation_step(self, batch: Batch | None, batch_idx: int) -> dict[str, Any] | None:
        if batch is None:  # none of its files could be read
            return None
        maps, counts = [], []
        for image, mask in zip(*batch, strict=True):
            maps.append(self.classify(image, mask.shape))
            counts.append(self.counts(maps[-1][None], mask[None]))  # of this image, and added to those of all
        return {"maps": maps, "counts": counts}

    def said(self, outputs: Any) -> list[dict[str, Any]]:
        rows = []
        for classes, counts in zip(outputs["maps"], outputs["counts"], strict=True):
            ious = class_ious(counts.cpu())
            known = {name: round(float(iou), 5) for name, iou in zip(self.classes, ious, strict=True) if iou == iou}
            mean = round(float(ious.nanmean()), 5) if known else None
            rows.append({"ious": known, "miou": mean, "map": small_map(classes.cpu())})
        return rows

    def classify(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """The class of each pixel, int64 of `size` (height, width); the image (3, H, W) is normalised."""
        data = self.recipe.data
        logits = slide(self.network, image, data.image_size, data.tile_stride(), data.blending)
        return enlarged_argmax(logits, size)

    def scores(self) -> Mapping[str, float]:
        counts = self.counts.compute()
        self.counts.reset()
        ious = class_ious(counts)
        scores = {"miou": float(ious.nanmean()), "pixel_accuracy": float(counts.trace() / counts.sum().clamp(min=1))}
        return scores | {f"iou/{name}": float(iou) for name, iou in zip(self.classes, ious, strict=True)}

    def predict_one(self, file: Path, out: Path, name: str, content: dict[str, list[Any]]) -> str:
        """Write the mask of class indices of an image, an overlay in colours, and the classes' shares as JSON."""
        image = read_rgb(file)
        transform = ValidationTransform(self.recipe.data).image
        normalised: Tensor = transform(v2.functional.to_image(image)).as_subclass(Tensor)
        classes = self.classify(normalised.to(self.device), image.shape[1:])
        shares = write_prediction(out, name, image, classes.cpu(), self.classes)
        picture = out / f"{name}.overlay.png"
        row = {"image": str(file), "picture": picture.name, "mask": f"{name}.mask.png", "shares": shares}
        content["predictions"].append(row)
        return f"{', '.join(f'{name} {share:.1%}' for name, share in list(shares.items())[:5])}; {picture}"


def pixel_loss(logits: Tensor, masks: Tensor, ignore: int) -> Tensor:
    """Cross-entropy (scalar) of logits (B, C, H, W) and masks (B, H, W), the mean over pixels that have a class.

    Example:
        >>> float(pixel_loss(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 255), 255))  # none has
        0.0
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=ignore, reduction="sum")
    return total / (masks != ignore).sum().clamp(min=1)
