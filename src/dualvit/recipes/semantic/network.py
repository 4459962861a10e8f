"""UPerNet of segmentation-models-pytorch on a timm backbone, with the auxiliary head that it is trained with."""

from collections.abc import Mapping
from typing import Any

from segmentation_models_pytorch import UPerNet
from segmentation_models_pytorch.base.modules import Conv2dReLU
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.backbones.recompute import recompute_blocks
from dualvit.backbones.timm_model import never_decayed
from dualvit.errors import InputError
from dualvit.meta import on_meta
from dualvit.models import create_model
from dualvit.recipes.config import Network
from dualvit.recipes.network import load_weights, weights_file
from dualvit.recipes.semantic.config import Decoder

REDUCTIONS = [4, 8, 16, 32]


class Segmenter(nn.Module):
    """Images (B, 3, H, W) to logits (B, classes, H, W).

    Args:
        network: The backbone: a timm model with maps at strides 4, 8, 16 and 32. Nothing is downloaded.
        decoder: Of UPerNet.
        classes: Of a pixel.

    Raises:
        ValueError: an unknown backbone, one without these maps, or weights of another one.
    """

    def __init__(self, network: Network, decoder: Decoder, classes: int) -> None:
        super().__init__()
        options: dict[str, Any] = {"drop_path_rate": network.drop_path, **network.options}
        with on_meta():
            full = create_model(network.name, **options)
        info: Any = create_on_meta(network.name, options).feature_info
        if info.reduction()[-4:] != REDUCTIONS:
            raise InputError(f"{network.name} has maps at strides {info.reduction()}; UPerNet needs {REDUCTIONS}")
        self.upernet = UPerNet(
            f"tu-{network.name}", encoder_weights=None, decoder_channels=decoder.channels, classes=classes, **options
        )
        features = self.upernet.encoder.model
        if (weights := weights_file(network)) is not None:
            load_weights(features, weights, full)
        recompute_blocks(features, network.grad_checkpointing)
        self.dropout = nn.Dropout2d(decoder.dropout)
        self.auxiliary = auxiliary_head(info.channels()[-2], decoder, classes) if decoder.auxiliary else None
        self.exempt = never_decayed(features, full)

    def no_weight_decay(self) -> set[str]:
        """What timm exempts from weight decay in the backbone."""
        return {f"upernet.encoder.model.{name}" for name in self.exempt}

    def forward(self, images: Tensor) -> Tensor:
        return self._logits(self.upernet.encoder(images), images)

    def training_logits(self, images: Tensor) -> Mapping[str, Tensor]:
        """Logits of each head at full size, by the name of its part of the loss."""
        features = self.upernet.encoder(images)
        stride_16 = features[-2]  # the decoder puts normalised maps into the list
        logits = {"segment": self._logits(features, images)}
        if self.auxiliary is not None:
            small = self.auxiliary(stride_16)
            logits["auxiliary"] = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def _logits(self, features: list[Tensor], images: Tensor) -> Tensor:
        logits = self.upernet.segmentation_head(self.dropout(self.upernet.decoder(features)))
        return logits[..., : images.shape[2], : images.shape[3]]  # the map at stride 4 reaches over an odd image


def create_on_meta(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A feature extractor without values, to see which maps it has."""
    with on_meta():
        return create_model(name, features_only=True, **options)


def auxiliary_head(channels: int, decoder: Decoder, classes: int) -> nn.Module:
    """A fully convolutional head: one 3x3 convolution and a classifier."""
    return nn.Sequential(
        Conv2dReLU(channels, decoder.auxiliary_channels, kernel_size=3, padding=1),
        nn.Dropout2d(decoder.dropout),
        nn.Conv2d(decoder.auxiliary_channels, classes, kernel_size=1),
    )
