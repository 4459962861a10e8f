"""Image classification: folders of classes, cross-entropy, top-1."""

from dualvit.names import lazily
from dualvit.recipes.classify.config import ClassifyRecipe as RecipeType

__all__ = ["DataType", "RecipeType", "TaskType"]
# A recipe is checked before torch is imported.
__getattr__ = lazily(
    __name__, DataType="dualvit.recipes.classify.data.ClassifyData", TaskType="dualvit.recipes.classify.task.Classify"
)
