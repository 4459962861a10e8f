"""Pretraining: a network learns the maps of a teacher on pictures without labels, or the formulas of drawn pictures."""

from dualvit.names import lazily
from dualvit.recipes.pretrain.config import PretrainRecipe as RecipeType

__all__ = ["DataType", "RecipeType", "TaskType"]
# A recipe is checked before torch is imported.
__getattr__ = lazily(
    __name__, DataType="dualvit.recipes.pretrain.data.PretrainData", TaskType="dualvit.recipes.pretrain.task.Pretrain"
)
