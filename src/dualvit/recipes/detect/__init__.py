"""Detection and instance segmentation: RetinaNet and Mask R-CNN on any timm backbone, COCO's AP."""

from dualvit.names import lazily
from dualvit.recipes.detect.config import DetectRecipe as RecipeType

__all__ = ["DataType", "RecipeType", "TaskType"]
# A recipe is checked before torch is imported.
__getattr__ = lazily(
    __name__, DataType="dualvit.recipes.detect.data.DetectData", TaskType="dualvit.recipes.detect.task.Detect"
)
