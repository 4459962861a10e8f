"""Pictures for classification: folders `train/CLASS/` and `val/CLASS/`, or shards; with label maps where asked for."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dualvit.backbones.maps import moments
from dualvit.data.folders import Sample, read_folders, read_split
from dualvit.data.images import open_rgb
from dualvit.data.label_maps import LabelMaps
from dualvit.data.parts import held_out
from dualvit.data.shards import ShardLoader, Shards, is_shards, read_classes
from dualvit.errors import InputError
from dualvit.recipes.checks import require_maps
from dualvit.recipes.classify.config import ClassifyRecipe
from dualvit.recipes.classify.transforms import TrainTransform, View, eval_transform
from dualvit.recipes.loading import Order, Reproducible, Skipped, TaskData


class Photos(Dataset[tuple[Tensor, int]]):
    """Pictures with labels, decoded at each use."""

    def __init__(self, samples: tuple[Sample, ...], transform: Callable[[Image.Image], Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.samples[index]
        return self.transform(open_rgb(file)), label


class LabelledPhotos(Dataset[tuple[Tensor, int, dict[str, Any]]]):
    """Pictures with labels and label maps; `dualvit.data.label_maps.crop` makes targets of a batch."""

    def __init__(self, samples: tuple[Sample, ...], transform: TrainTransform, maps: LabelMaps) -> None:
        self.samples, self.transform, self.maps = samples, transform, maps

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int, dict[str, Any]]:
        file, label = self.samples[index]
        scores, classes = self.maps.read(file)
        image, view = self.transform(open_rgb(file))
        return image, label, {"scores": scores, "classes": classes, **placed(view)}


def placed(view: View) -> dict[str, Tensor]:
    """A view as tensors, for a batch."""
    return {"boxes": torch.tensor(view.box), "flipped": torch.tensor(view.flipped)}


def in_order(
    samples: tuple[Sample, ...], transform: Callable[[Image.Image], Tensor], batch: int, workers: int, skipped: Skipped
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of each picture that can be read, once and in order, with the numbers that came with them."""
    loader: DataLoader[Any] = DataLoader(
        Reproducible(Photos(samples, transform), 0, skipped, substitute=False),
        batch,
        sampler=Order(samples, None),
        num_workers=workers,
        collate_fn=_readable,
    )
    for readable in loader:
        if readable:
            yield tuple(default_collate(readable))


def _readable(samples: list[Any]) -> list[Any]:
    return [sample for sample in samples if sample is not None]


class ClassifyData(TaskData):
    """Batches are (images (B, 3, S, S), labels (B,)), and with token labels what `crop` takes of their maps."""

    recipe: ClassifyRecipe

    def __init__(self, recipe: ClassifyRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.mean, self.std = moments(recipe.network.name)
        self.sharded = is_shards(recipe.data.root)
        if self.sharded:
            if recipe.data.hold_out:
                raise InputError(f"data.hold_out is {recipe.data.hold_out}, and data.root names shards; give a folder")
            self.classes = read_classes(recipe.data.classes)
            return
        self.split = read_folders(recipe.data.root)
        self.notes = self.split.notes
        self.classes = self.split.classes

    def train_data(self) -> Any:
        transform = self._train_transform()
        labels = self.recipe.token_labels
        if labels is None:
            return Photos(self._samples("train"), transform.image)
        require_maps(self.recipe)
        maps = LabelMaps(Path(labels.maps), Path(self.recipe.data.root), self.classes)
        return LabelledPhotos(self._samples("train"), transform, maps)

    def val_data(self) -> Any:
        return Photos(self._samples("val"), self._eval_transform())

    def _samples(self, split: str) -> tuple[Sample, ...]:
        if every := self.recipe.data.hold_out:
            return held_out(self.split.train, every, split)
        return self.split.train if split == "train" else self.split.val

    def val_files(self) -> list[Path]:
        return [file for file, _ in self.split.val]

    def constant(self) -> float:
        labels = Counter(label for _, label in self._samples("val"))
        return max(labels.values()) / labels.total()

    def use_tests(self) -> None:
        folder = Path(self.recipe.data.root) / "test"
        if self.sharded or not folder.is_dir():
            raise self.no_tests("test/CLASS/picture.jpg")
        self.split = replace(self.split, val=read_split(folder, self.classes)[1])

    def train_dataloader(self) -> Any:
        if not self.sharded:
            return super().train_dataloader()
        transform = self._train_transform()
        return self._shard_loader(self.recipe.data.root, transform.image, self.recipe.data.samples)

    def val_dataloader(self) -> Any:
        if not self.sharded:
            return super().val_dataloader()
        return self._shard_loader(self.recipe.data.val, self._eval_transform(), None)

    def _shard_loader(self, urls: str, transform: Callable[[Image.Image], Tensor], samples: int | None) -> ShardLoader:
        settings, batch = self.recipe.data, self.process_batch()
        shards = Shards(
            urls, transform, len(self.classes), batch, self.recipe.seed, samples, settings.shuffle,
            (self._rank(), self._world()), self.skipped.add,
        )  # fmt: skip
        return ShardLoader(shards, batch, settings.workers, self.epoch, torch.cuda.is_available())

    def _train_transform(self) -> TrainTransform:
        return TrainTransform(self.recipe.augment, self.recipe.data.image_size, self.mean, self.std)

    def _eval_transform(self) -> Callable[[Image.Image], Tensor]:
        return eval_transform(self.recipe.data.image_size, self.recipe.data.crop_pct, self.mean, self.std)
