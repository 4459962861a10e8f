"""Semantic segmentation: UPerNet, images with masks, mIoU over whole images."""

from dualvit.names import lazily
from dualvit.recipes.semantic.config import SemanticRecipe as RecipeType

__all__ = ["DataType", "RecipeType", "TaskType"]
# A recipe is checked before torch is imported.
__getattr__ = lazily(
    __name__, DataType="dualvit.recipes.semantic.data.SemanticData", TaskType="dualvit.recipes.semantic.task.Semantic"
)
