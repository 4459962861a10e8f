"""The settings of a YOLO training that are the same for all models of a comparison."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.recipes.config import CHECKED, NotNegative, Positive, Share


@dataclass(frozen=True, config=CHECKED)
class YoloSettings:
    """AdamW with a cosine, through Ultralytics, under its own names.

    Attributes:
        lr0: Learning rate at its highest.
        weight_decay: As Ultralytics takes it.
        warmup_epochs: Length of the warm-up.
        mosaic: Probability of four pictures in one.
        close_mosaic: The last epochs, which go without it.
        scale: Largest relative change of size.
        translate: Largest shift, as a share of the picture.
        fliplr: Probability that a picture is mirrored.
        flipud: Probability that a picture is turned upside down.
        hsv_h: Largest change of hue, and likewise of saturation (`hsv_s`) and brightness (`hsv_v`).
    """

    lr0: Positive = 1e-3
    weight_decay: NotNegative = 5e-4
    warmup_epochs: NotNegative = 3.0
    mosaic: Share = 1.0
    close_mosaic: Annotated[int, Field(ge=0)] = 10
    scale: NotNegative = 0.5
    translate: Share = 0.1
    fliplr: Share = 0.5
    flipud: Share = 0.0
    hsv_h: Share = 0.015
    hsv_s: Share = 0.7
    hsv_v: Share = 0.4
