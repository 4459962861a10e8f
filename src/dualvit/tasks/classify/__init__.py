"""Image classification: folders of classes, cross-entropy, top-1."""

from dualvit.tasks.classify.config import ClassifyRecipe as RecipeType
from dualvit.tasks.classify.data import ClassifyData as DataType
from dualvit.tasks.classify.task import Classify as TaskType

__all__ = ["DataType", "RecipeType", "TaskType"]
