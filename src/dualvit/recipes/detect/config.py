"""The settings of detection and instance segmentation."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.errors import InputError
from dualvit.recipes.config import CHECKED, Count, DataSettings, LabelledSettings, NotNegative, Recipe, Share

Side = Annotated[int, Field(ge=32)]


@dataclass(frozen=True, config=CHECKED)
class Head:
    """What stands on the backbone; the defaults are those of the paper's detectors.

    Attributes:
        channels: Of the feature pyramid and the heads.
        norm: none; or group, group norm (of 32 groups at most) in the pyramid and the heads, which helps from scratch.
        anchor: Side of the anchors on the finest map, in pixels; it doubles from map to map.
        rois: Regions of an image that Mask R-CNN's heads learn from.
        detections: The most objects found in an image.
        score: Objects with a lower score are left out; AP wants this low.
        shown: Objects with a lower score are not drawn into pictures.
    """

    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 256
    norm: Literal["none", "group"] = "none"
    anchor: Annotated[int, Field(ge=2)] = 32
    rois: Count = 512
    detections: Count = 100
    score: Share = 0.05
    shown: Share = 0.4


@dataclass(frozen=True, config=CHECKED)
class DetectAugment:
    """What training pictures go through, beside their size.

    Attributes:
        flip: Probability that a picture is mirrored.
        flip_vertical: Probability that it is turned upside down.
        colour_jitter: Largest relative change of brightness, contrast and saturation.
    """

    flip: Share = 0.5
    flip_vertical: Share = 0.0
    colour_jitter: NotNegative = 0.0


@dataclass(frozen=True, config=CHECKED)
class DetectSettings(LabelledSettings):
    """A data.yaml of the YOLO layout, or a folder in COCO's.

    Attributes:
        root: A data.yaml, a folder with one, or the folder that the paths of COCO's files begin at.
        train_json: COCO's annotations to train on.
        train_images: COCO's folder of images to train on.
        val_json: COCO's annotations to validate on.
        val_images: COCO's folder of images to validate on.
        short_side: Pictures are resized to it, in pixels; of several, training picks one for each picture and
            validation takes the last.
        long_side: The most that the longer side may have then.
    """

    train_json: str = "annotations/instances_train2017.json"
    train_images: str = "train2017"
    val_json: str = "annotations/instances_val2017.json"
    val_images: str = "val2017"
    short_side: Side | tuple[Side, ...] = 800
    long_side: Side = 1333
    batch: Count = 16

    def __post_init__(self) -> None:
        if self.image_size != DataSettings.image_size:
            raise InputError("pictures of detectors are no squares; give short_side and long_side, not image_size")
        if max(self.sides) > self.long_side:
            raise InputError(f"short_side is {max(self.sides)} and long_side {self.long_side}; give a larger long_side")

    @property
    def sides(self) -> tuple[int, ...]:
        """The short sides, as a tuple."""
        return (self.short_side,) if isinstance(self.short_side, int) else self.short_side


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class DetectRecipe(Recipe):
    """A recipe of detection or instance segmentation.

    Attributes:
        detector: retinanet finds boxes; mask-rcnn finds masks as well.
    """

    LAYOUT: ClassVar[str] = "data.root=data.yaml, a folder with one, or a folder in COCO's layout"

    task: Literal["detect"] = "detect"
    detector: Literal["retinanet", "mask-rcnn"] = "retinanet"
    head: Head = field(default_factory=Head)
    augment: DetectAugment = field(default_factory=DetectAugment)
    data: DetectSettings
