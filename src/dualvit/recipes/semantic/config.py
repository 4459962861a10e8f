"""The settings of semantic segmentation."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.errors import InputError
from dualvit.recipes.config import CHECKED, Count, LabelledSettings, NotNegative, Positive, Recipe, Share


@dataclass(frozen=True, config=CHECKED)
class SemanticSettings(LabelledSettings):
    """Images with masks.

    Attributes:
        classes: Their names; where left out, those that the data set itself gives.
        reduce_zero_label: 0 in a mask marks pixels without a class, and 1 is the first class, as in ADE20K.
        ignore_index: Marks pixels without a class, too.
        short_side: Images are brought to this shorter side, in pixels: before the random scale in training, and
            before the tiles in validation, whose logits are brought back to the image's own size.
        stride: Pixels between the tiles of validation, which are squares of `image_size`; two thirds of it where
            left out.
        blending: What a tile's pixels weigh where tiles overlap: all the same, or less towards the border.
    """

    classes: tuple[str, ...] = ()
    reduce_zero_label: bool = False
    ignore_index: Annotated[int, Field(ge=0, le=65535)] = 255
    short_side: Count = 512
    stride: Count | None = None
    blending: Literal["mean", "gaussian"] = "mean"

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride > self.image_size:
            raise InputError(f"stride {self.stride} leaves gaps between tiles of {self.image_size}; give less")
        if self.classes and self.ignore_index < len(self.classes):
            raise InputError(f"ignore_index {self.ignore_index} is the index of a class; give 255")

    def tile_stride(self) -> int:
        """Pixels between tiles."""
        return self.stride or self.image_size * 2 // 3


@dataclass(frozen=True, config=CHECKED)
class SemanticAugment:
    """What training images go through before the crop of `data.image_size`, and after it.

    Attributes:
        scale: The smallest and the largest factor of the size.
        largest_share: Crops in which one class has a larger share than this are drawn anew, ten times at most.
        flip: Probability that an image is mirrored.
        distort: Change brightness, contrast, saturation, hue and the order of channels at random.
    """

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    largest_share: Share = 0.75
    flip: Share = 0.5
    distort: bool = True

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise InputError(f"scale goes from {self.scale[0]:g} down to {self.scale[1]:g}; give the smaller one first")


@dataclass(frozen=True, config=CHECKED)
class Decoder:
    """UPerNet on the four maps of the backbone.

    Attributes:
        channels: Of its maps.
        dropout: Before its classifier.
        auxiliary: Weight of the loss of a second, small head on the map at stride 16; 0 has none.
        auxiliary_channels: Of that head.
    """

    channels: Count = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    auxiliary: NotNegative = 0.4
    auxiliary_channels: Count = 256


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class SemanticRecipe(Recipe):
    """A recipe of semantic segmentation."""

    LAYOUT: ClassVar[str] = "data.root=FOLDER with images/ and masks/, in ADE20K's layout, or with a data.yaml"

    task: Literal["semantic"] = "semantic"
    data: SemanticSettings
    augment: SemanticAugment = field(default_factory=SemanticAugment)
    decoder: Decoder = field(default_factory=Decoder)
