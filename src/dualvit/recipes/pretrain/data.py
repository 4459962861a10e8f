"""Pictures without labels, cut out at random; or pictures drawn by formulas."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dualvit.data.images import middle, open_rgb
from dualvit.data.pictures import training_pictures
from dualvit.data.shards import ShardLoader, Shards
from dualvit.drawn.formulas import draw_formula
from dualvit.names import is_shards
from dualvit.recipes.loading import TaskData
from dualvit.recipes.pretrain.config import PretrainAugment, PretrainRecipe

LOOKED_AT = 64  # pictures that are validated, and by which the teacher's channels are whitened
Transform = Callable[[Image.Image], Tensor]


class Views(Dataset[tuple[Tensor, int]]):
    """Views of pictures, decoded at each use; a picture comes several times if fewer are there than are asked for.

    Args:
        files: The pictures.
        transform: From an RGB picture to (3, S, S).
        least: Samples, at the least.
    """

    def __init__(self, files: Sequence[Path], transform: Transform, least: int = 0) -> None:
        self.files, self.transform = files, transform
        self.samples = [(file, 0) for file in files] * max(1, -(-least // len(files)))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(open_rgb(self.samples[index][0])), 0


class Drawn(Dataset[tuple[Tensor, int]]):
    """Pictures by formulas: each picture depends on what its sample was seeded with, its class on its number.

    Args:
        count: Samples.
        classes: Formulas.
        size: Sides in pixels.
        transform: From an RGB picture to (3, S, S).
        series: Tells samples apart that are seeded alike, those of training and of validation.
    """

    def __init__(self, count: int, classes: int, size: int, transform: Transform, series: int) -> None:
        self.count, self.classes, self.size, self.transform, self.series = count, classes, size, transform, series

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % self.classes
        rng = np.random.default_rng([np.random.randint(2**31), self.series])
        return self.transform(draw_formula(label, self.size, rng)), label


class PretrainData(TaskData):
    """Batches are (images (B, 3, S, S) from 0 to 1, labels (B,)); the labels are of formulas, else 0."""

    recipe: PretrainRecipe

    def __init__(self, recipe: PretrainRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.classes = ()
        self.sharded = is_shards(recipe.data.root)
        notes: list[str] = []
        self.files = () if recipe.data.drawn or self.sharded else training_pictures(recipe.data.root, notes)
        self.notes = tuple(notes)

    def train_dataloader(self) -> Any:
        if not self.sharded:
            return super().train_dataloader()
        view = training_view(self.recipe.augment, self.recipe.data.image_size)
        return self._shard_loader(view, self.recipe.data.samples)

    def val_dataloader(self) -> Any:
        if not self.sharded:
            return super().val_dataloader()
        return self._shard_loader(plain_view(self.recipe.data.image_size), None)

    def _shard_loader(self, transform: Transform, samples: int | None) -> ShardLoader:
        data, batch = self.recipe.data, self.process_batch()
        shards = Shards(
            data.root, transform, None, batch, self.recipe.seed, samples, data.samples, (self._rank(), self._world()),
            self.skipped.add, LOOKED_AT,
        )  # fmt: skip
        return ShardLoader(shards, batch, data.workers if samples else 0, self.epoch, torch.cuda.is_available())

    def train_data(self) -> Any:
        data, transform = self.recipe.data, training_view(self.recipe.augment, self.recipe.data.image_size)
        if data.drawn:
            return Drawn(data.samples, data.classes, data.image_size, transform, series=0)
        return Views(self.files, transform, data.samples)

    def val_data(self) -> Any:
        data, transform = self.recipe.data, plain_view(self.recipe.data.image_size)
        if data.drawn:
            return Drawn(min(LOOKED_AT, data.samples), data.classes, data.image_size, transform, series=1)
        step = -(-len(self.files) // LOOKED_AT)
        return Views(self.files[::step], transform)


def training_view(augment: PretrainAugment, size: int) -> Transform:
    """Return a random crop of `size` pixels, mirrored and recoloured at random."""
    jitter = augment.colour_jitter
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, (augment.crop_scale, 1.0), augment.crop_ratio),
            v2.RandomHorizontalFlip(augment.flip),
            *([v2.ColorJitter(jitter, jitter, jitter)] if jitter else []),
            *_to_tensor(),
        ]
    )


def plain_view(size: int) -> Transform:
    """Return the centre of a picture whose shorter side has `size` pixels."""
    return v2.Compose([middle, v2.Resize(size), v2.CenterCrop(size), *_to_tensor()])


def _to_tensor() -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]
