"""Pictures for classification: folders `train/CLASS/` and `val/CLASS/`."""

import math
from pathlib import Path
from typing import Any

from dualvit.data.images import Pictures, read_folders, training_transform, validation_transform
from dualvit.tasks.classify.config import ClassifyRecipe
from dualvit.tasks.loading import TaskData


class ClassifyData(TaskData):
    """Batches are (images (B, 3, S, S), labels (B,))."""

    recipe: ClassifyRecipe

    def __init__(self, recipe: ClassifyRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.found = read_folders(recipe.data.root)
        self.classes = self.found.classes
        self.side = math.ceil(1.25 * recipe.data.image_size)

    def train_data(self) -> Any:
        augment, size = self.recipe.augment, self.recipe.data.image_size
        transform = training_transform(size, augment.crop_scale, augment.flip, augment.colour_jitter)
        return Pictures(self.found.train, self.side, transform)

    def val_data(self) -> Any:
        return Pictures(self.found.val, self.side, validation_transform(self.recipe.data.image_size))
