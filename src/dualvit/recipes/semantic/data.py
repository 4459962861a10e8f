"""Images and masks for semantic segmentation: random scale, crop, mirror and colours, the mask along with the image."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dualvit.data.masks import (
    Masks,
    OtherSizeError,
    draw_polygons,
    read_mask,
    read_masks,
    read_polygons,
    read_rgb,
    require_classes,
    with_tests,
)
from dualvit.data.parts import held_out
from dualvit.data.yolo_labels import Pair
from dualvit.errors import InputError
from dualvit.recipes.loading import TaskData, UnreadableError
from dualvit.recipes.semantic.config import SemanticAugment, SemanticRecipe, SemanticSettings

MEAN_COLOUR = [round(255 * value) for value in IMAGENET_DEFAULT_MEAN]  # about 0 for the network
Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[Tensor, Tensor]]


class MaskedImages(Dataset[tuple[Tensor, Tensor]]):
    """Images with masks.

    Raises:
        UnreadableError: from an index, where one of its files cannot be read, or the mask does not fit the image.
        ValueError: from an index, where the mask does not belong to the classes.
    """

    def __init__(self, masks: Masks, samples: tuple[Pair, ...], data: SemanticSettings, transform: Transform) -> None:
        self.masks, self.samples, self.data, self.transform = masks, samples, data, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file, mask_file = self.samples[index]
        image = read_rgb(file)
        try:
            mask = self._mask(mask_file, image)
        except OtherSizeError:  # of a rotated photograph, drawn on the pixels as stored
            image = read_rgb(file, upright=False)
            mask = self._mask(mask_file, image)
        image, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)

    def _mask(self, file: Path, image: Tensor) -> Tensor:
        size, classes = (image.shape[1], image.shape[2]), len(self.masks.classes)
        if self.masks.polygons:
            return draw_polygons(file, size, classes, self.masks.polygons.keypoints)
        return read_mask(file, size, classes, self.data.ignore_index, self.data.reduce_zero_label)


class SemanticData(TaskData):
    """Batches are lists: images (3, H, W) and masks (H, W).

    In training all of them are as large as the crop; in validation images have `data.short_side`, and masks the size
    of their files.
    """

    recipe: SemanticRecipe

    def __init__(self, recipe: SemanticRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.masks = read_masks(recipe.data.root, recipe.data.classes)
        self.classes = self.masks.classes
        if recipe.data.ignore_index < len(self.classes):
            raise InputError(
                f"data.ignore_index is {recipe.data.ignore_index}, which is class "
                f"{self.classes[recipe.data.ignore_index]!r}; give {max(255, len(self.classes))}"
            )
        read = ("train",) if recipe.data.hold_out else ("train", "val")
        self.labels = {split: read_polygons(self.masks, split) for split in read}
        said = (note for labels in self.labels.values() if labels for note in labels.notes(boxes=True))
        self.notes = (*self.masks.notes, *said)

    def train_data(self) -> Any:
        transform = TrainingTransform(self.recipe.data, self.recipe.augment)
        return MaskedImages(self.masks, self._samples("train"), self.recipe.data, transform)

    def val_data(self) -> Any:
        return MaskedImages(self.masks, self._samples("val"), self.recipe.data, ValidationTransform(self.recipe.data))

    def val_files(self) -> list[Path]:
        return [file for file, _ in self._samples("val")]

    def constant(self) -> float:
        settings, pixels = self.recipe.data, torch.zeros(len(self.classes), dtype=torch.int64)
        samples = MaskedImages(self.masks, self._samples("val"), settings, lambda image, mask: (image, mask))
        for index in range(len(samples)):
            with suppress(UnreadableError):  # left out of the score, too
                mask = samples[index][1]
                pixels += torch.bincount(mask[mask != settings.ignore_index], minlength=len(pixels))
        return float(pixels.max() / pixels.sum().clamp(min=1) / (pixels > 0).sum().clamp(min=1))

    def use_tests(self) -> None:
        self.masks = with_tests(self.masks, self.recipe.data.root)
        if not self.masks.val:
            raise self.no_tests("images/test and masks/test, or a data.yaml with `test:`")
        self.labels["val"] = read_polygons(self.masks, "val")

    def _samples(self, split: str) -> tuple[Pair, ...]:
        """The images of a split with their masks, or with those label files that can be read."""
        if every := self.recipe.data.hold_out:
            return held_out(self._read("train"), every, split)
        return self._read(split)

    def _read(self, split: str) -> tuple[Pair, ...]:
        labels, data = self.labels[split], self.recipe.data
        if labels is None:
            samples = self.masks.train if split == "train" else self.masks.val
            require_classes(samples, self.classes, data.ignore_index, data.reduce_zero_label)
            return samples
        labels.require_some()  # all masks would be background
        self.skipped.add_all(labels.unreadable)
        return tuple(labels.pairs)

    def collate(self, samples: list[Any]) -> Any:
        images, masks = zip(*samples, strict=True)
        return list(images), list(masks)


class TrainingTransform:
    """Random scale, crop, mirror and colours; (3, H, W) and (H, W) to normalised (3, S, S) and (S, S)."""

    def __init__(self, data: SemanticSettings, augment: SemanticAugment) -> None:
        low, high = (round(data.short_side * factor) for factor in augment.scale)
        self.scale = v2.RandomShortestSize(list(range(low, high + 1)), antialias=True)
        fill = {tv_tensors.Image: MEAN_COLOUR, tv_tensors.Mask: data.ignore_index}
        self.crop = v2.RandomCrop(data.image_size, pad_if_needed=True, fill=fill)
        self.largest_share, self.ignore = augment.largest_share, data.ignore_index
        steps = [v2.RandomHorizontalFlip(augment.flip), *([v2.RandomPhotometricDistort()] if augment.distort else [])]
        self.rest = v2.Compose([*steps, _normalise()])

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[Tensor, Tensor]:
        scaled = self.scale(image, mask)
        for _ in range(10):
            image, mask = self.crop(*scaled)
            counts = mask[mask != self.ignore].unique(return_counts=True)[1]
            if len(counts) and int(counts.max()) <= self.largest_share * int(counts.sum()):
                break
        return self.rest(image, mask)


class ValidationTransform:
    """The whole image at `data.short_side`, normalised; the mask as it is."""

    def __init__(self, data: SemanticSettings) -> None:
        self.image = v2.Compose([v2.Resize(data.short_side, antialias=True), _normalise()])

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[Tensor, Tensor]:
        return self.image(image), mask


def _normalise() -> v2.Transform:
    return v2.Compose(
        [
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )
