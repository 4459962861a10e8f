"""timm's transforms of training and validation pictures; the first also say which part of the picture is seen."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import Compose
from torchvision.transforms import functional as F

from dualvit.data.images import middle
from dualvit.errors import InputError
from dualvit.recipes.classify.config import ClassifyAugment


@dataclass(frozen=True)
class View:
    """The part of a picture that a crop shows.

    Attributes:
        box: Left, top, right and bottom, as shares of the picture.
        flipped: Whether it was mirrored after that.
    """

    box: tuple[float, float, float, float]
    flipped: bool


class TrainTransform:
    """A random crop, a mirror, colours and erasing: timm's, with the crop and the mirror known afterwards."""

    def __init__(self, augment: ClassifyAugment, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.flip = augment.flip
        try:
            first, self.colours, self.final = create_transform(
                size, is_training=True, separate=True, hflip=0.0,
                scale=(augment.crop_scale, 1.0), ratio=augment.crop_ratio, interpolation=augment.interpolation,
                color_jitter=augment.colour_jitter or None, auto_augment=augment.auto or None,
                re_prob=augment.erasing, re_mode="pixel", mean=mean, std=std,
            )  # fmt: skip
        except (AssertionError, KeyError, ValueError) as error:  # timm asserts what its notation allows
            raise InputError(
                f"augment.auto is {augment.auto!r}, which timm cannot read ({error}); "
                "write it like rand-m9-mstd0.5-inc1, or leave it empty"
            ) from None
        self.crop: Any = first.transforms[0]

    def __call__(self, image: Image.Image) -> tuple[Tensor, View]:
        """An RGB picture to a normalised (3, size, size) and what it shows."""
        top, left, height, width = self.crop.get_params(image, self.crop.scale, self.crop.ratio)
        choice = self.crop.interpolation
        if isinstance(choice, tuple | list):
            choice = random.choice(choice)
        seen = F.resized_crop(image, top, left, height, width, self.crop.size, choice)
        flipped = random.random() < self.flip
        if flipped:
            seen = F.hflip(seen)
        columns, rows = image.size
        box = (left / columns, top / rows, (left + width) / columns, (top + height) / rows)
        return self.final(self.colours(seen)), View(box, flipped)

    def image(self, image: Image.Image) -> Tensor:
        """The picture alone."""
        return self(image)[0]


def eval_transform(
    size: int, crop_pct: float, mean: tuple[float, ...], std: tuple[float, ...], interpolation: str = "bicubic"
) -> Callable[[Image.Image], Tensor]:
    """The centre of the picture, normalised: (3, size, size)."""
    transform = create_transform(size, crop_pct=crop_pct, interpolation=interpolation, mean=mean, std=std)
    return Compose([middle, *transform.transforms])
