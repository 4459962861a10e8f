"""Detection and instance segmentation: RetinaNet and Mask R-CNN on any timm backbone, COCO's AP."""

from dualvit.tasks.detect.config import DetectRecipe as RecipeType
from dualvit.tasks.detect.data import DetectData as DataType
from dualvit.tasks.detect.task import Detect as TaskType

__all__ = ["DataType", "RecipeType", "TaskType"]
