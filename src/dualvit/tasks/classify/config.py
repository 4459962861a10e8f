"""The settings of image classification."""

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from dualvit.tasks.config import CHECKED, Recipe, Share


@dataclass(frozen=True, config=CHECKED)
class Augment:
    """What training pictures go through.

    Attributes:
        crop_scale: The smallest share of a picture that a training crop shows.
        flip: Probability that a training picture is mirrored.
        colour_jitter: Largest relative change of brightness, contrast and saturation.
        label_smoothing: Share of the target that goes to all classes alike.
    """

    crop_scale: Share = 0.08
    flip: Share = 0.5
    colour_jitter: Share = 0.4
    label_smoothing: Share = 0.1


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class ClassifyRecipe(Recipe):
    """A recipe of image classification."""

    task: Literal["classify"] = "classify"
    augment: Augment = field(default_factory=Augment)
