"""The settings of a training run that are the same for all models of a comparison."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifyRecipe:
    """AdamW with a cosine that falls to 1 % after a linear warm-up.

    Attributes:
        lr: Learning rate at its highest.
        weight_decay: Not on norms, biases, and what a model's `no_weight_decay` names.
        warmup_epochs: Length of the warm-up.
        label_smoothing: Share of the target that goes to all classes alike.
        crop_scale: The smallest share of a picture that a training crop shows; 1 takes all of it.
        flip: Probability that a training picture is mirrored.
        colour_jitter: Largest relative change of brightness, contrast and saturation.
        clip_grad: Largest norm of the gradient; 0 leaves it as it is.
    """

    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    crop_scale: float = 0.6
    flip: float = 0.0  # a mirrored digit or sign is another one, or none
    colour_jitter: float = 0.3
    clip_grad: float = 1.0


@dataclass(frozen=True)
class DetectRecipe:
    """AdamW with a cosine, through Ultralytics; the names are its own, `lr` excepted (its `lr0`).

    Attributes:
        lr: Learning rate at its highest.
        weight_decay: As Ultralytics takes it.
        warmup_epochs: Length of the warm-up.
        mosaic: Probability of four pictures in one.
        close_mosaic: The last epochs, which go without it.
        scale: Largest relative change of size.
        translate: Largest shift, as a share of the picture.
        fliplr: Probability that a picture is mirrored.
        hsv_h: Largest change of hue, and likewise of saturation (`hsv_s`) and brightness (`hsv_v`).
    """

    lr: float = 1e-3
    weight_decay: float = 5e-4
    warmup_epochs: float = 3.0
    mosaic: float = 1.0
    close_mosaic: int = 10
    scale: float = 0.5
    translate: float = 0.1
    fliplr: float = 0.5
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4


Recipe = ClassifyRecipe | DetectRecipe
RECIPES: dict[str, type[Recipe]] = {"classify": ClassifyRecipe, "detect": DetectRecipe, "segment": DetectRecipe}
# The digits: a mirrored 2 is no 2, and a quarter of a small picture no place for one.
DIGITS = {"mosaic": 0.0, "scale": 0.3, "fliplr": 0.0}
