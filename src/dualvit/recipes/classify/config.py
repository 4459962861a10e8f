"""The settings of image classification."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.errors import InputError
from dualvit.names import is_shards
from dualvit.recipes.config import CHECKED, Count, LabelledSettings, NotNegative, Positive, Recipe, Share


@dataclass(frozen=True, config=CHECKED)
class ClassifyAugment:
    """What training pictures go through: timm's transforms, under its names.

    Attributes:
        crop_scale: The smallest share of a picture that a training crop shows.
        crop_ratio: Narrowest and widest crop, width over height.
        flip: Probability that a training picture is mirrored.
        auto: RandAugment or another policy in timm's notation, such as rand-m9-mstd0.5-inc1; empty for none.
        colour_jitter: Largest relative change of brightness, contrast and saturation; timm leaves it out where
            a policy is given.
        erasing: Probability that a random rectangle is replaced by noise.
        interpolation: bicubic, bilinear, or random.
        label_smoothing: Share of the target that goes to all classes alike.
    """

    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.08
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    auto: str = ""
    colour_jitter: Share = 0.4
    erasing: Share = 0.0
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1


@dataclass(frozen=True, config=CHECKED)
class Mix:
    """timm's Mixup: two pictures of a batch in one, with both labels.

    Attributes:
        mixup: Alpha of mixup; 0 has none.
        cutmix: Alpha of CutMix; 0 has none.
        probability: Of either, for each batch.
        switch: Probability of CutMix where both are on.
    """

    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    probability: Share = 1.0
    switch: Share = 0.5


@dataclass(frozen=True, config=CHECKED)
class TokenLabels:
    """Token labelling (Jiang et al., NeurIPS 2021), with MixToken; the class is learnt from the picture's own label.

    Attributes:
        maps: Folder that `dualvit token-labels` wrote for the data set.
        dense_weight: Of the loss of the tokens.
        class_weight: Of the loss of the class.
        beta: Of the beta distribution that MixToken's area comes from; 0 mixes nothing.
        probability: Of MixToken, for each batch.
    """

    maps: str = ""
    dense_weight: NotNegative = 0.5
    class_weight: NotNegative = 1.0
    beta: NotNegative = 1.0
    probability: Share = 1.0


@dataclass(frozen=True, config=CHECKED)
class ClassifySettings(LabelledSettings):
    """Where pictures come from: a folder of `train/CLASS/` and `val/CLASS/`, or WebDataset shards.

    Attributes:
        crop_pct: Share of the shorter side that validation sees.
        val: Shards to validate on, where `root` names shards to train on, such as `shards/train-{000..099}.tar`.
        classes: Of shards: a text file with the name of each class in a line; a sample's `cls` counts them from 0.
        samples: Of shards: pictures in an epoch.
        shuffle: Of shards: pictures that are held back to be shuffled.
    """

    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.875
    val: str = ""
    classes: str = ""
    samples: Count | None = None
    shuffle: Count = 5000


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class ClassifyRecipe(Recipe):
    """A recipe of image classification.

    Attributes:
        token_labels: Settings of token labelling; null trains on the classes alone.
    """

    LAYOUT: ClassVar[str] = "data.root=FOLDER with train/CLASS/ and val/CLASS/, or shards"

    task: Literal["classify"] = "classify"
    data: ClassifySettings
    augment: ClassifyAugment = field(default_factory=ClassifyAugment)
    mix: Mix = field(default_factory=Mix)
    token_labels: TokenLabels | None = None

    def __post_init__(self) -> None:
        if self.mixes and self.data.batch % 2:
            raise InputError(f"mixup pairs pictures, and data.batch is {self.data.batch}; give an even one")
        sharded = is_shards(self.data.root)
        if sharded and (self.data.samples is None or not self.data.val):
            raise InputError("shards need data.samples (pictures in an epoch) and data.val (shards to validate on)")
        if self.token_labels is None:
            return
        if sharded:
            raise InputError("token labels need a folder with train/CLASS/ as data.root; shards have no label maps")
        if self.mixes:
            raise InputError("token labels bring MixToken; set mix.mixup=0 and mix.cutmix=0")
        if self.data.image_size % 32:
            raise InputError(f"data.image_size is {self.data.image_size}; token labels need a multiple of 32")

    @property
    def mixes(self) -> bool:
        """Whether timm's Mixup is on."""
        return self.mix.mixup > 0 or self.mix.cutmix > 0
