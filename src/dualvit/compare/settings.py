"""Settings of a comparison: those of a YOLO training, and how each model's learning rate is chosen."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.recipes.config import CHECKED, NotNegative, Positive, Share


@dataclass(frozen=True, config=CHECKED)
class YoloSettings:
    """AdamW with a cosine, through Ultralytics, under its own names.

    Attributes:
        optimizer: AdamW, or auto, with which Ultralytics chooses the optimizer and its rate, whatever `lr0` says.
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

    optimizer: Literal["AdamW", "auto"] = "AdamW"
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


@dataclass(frozen=True, config=CHECKED)
class Sweep:
    """How each model's learning rate is chosen, on a part of the training pictures.

    Attributes:
        rates: The first ones to try, at least three; if left out, six about the experiment's own rate. They are
            widened by the last factor while the best one stands at an end.
        every: Of the training pictures, each so many's last one scores the rates, and the others train.
        budget: Share of the experiment's epochs or minutes that each rate trains for.
        most: Rates per model.
    """

    rates: Annotated[tuple[Positive, ...], Field(min_length=3)] | None = None
    every: Annotated[int, Field(ge=2)] = 5
    budget: Annotated[float, Field(gt=0, le=1)] = 1 / 3
    most: Annotated[int, Field(ge=3)] = 10

    def first(self, own: float) -> tuple[float, ...]:
        """Return the first rates to try, from low to high, if the experiment's own rate is `own`."""
        return tuple(sorted(set(self.rates or (own * 2.0**power for power in range(-3, 3)))))
