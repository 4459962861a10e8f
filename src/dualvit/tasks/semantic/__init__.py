"""Semantic segmentation: UPerNet, images with masks, mIoU over whole images."""

from dualvit.tasks.semantic.config import SemanticRecipe as RecipeType
from dualvit.tasks.semantic.data import SemanticModule as DataType
from dualvit.tasks.semantic.task import Semantic as TaskType

__all__ = ["DataType", "RecipeType", "TaskType"]
