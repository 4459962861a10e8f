"""Detection and instance segmentation: RetinaNet and Mask R-CNN on any timm backbone, COCO's AP."""

from dualvit.names import lazily
from dualvit.tasks.detect.config import DetectRecipe as RecipeType

__all__ = ["DataType", "RecipeType", "TaskType"]
# A recipe is checked before torch is imported.
__getattr__ = lazily(
    __name__, DataType="dualvit.tasks.detect.data.DetectData", TaskType="dualvit.tasks.detect.task.Detect"
)
