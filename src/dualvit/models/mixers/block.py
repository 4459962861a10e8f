"""The block around a mixer: norm, mixer, norm, feed-forward network; semantics pass through the mixer alone."""

from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import EPS, ConvFFN


def scale(dim: int, initial: float | None) -> nn.Module:
    """Return a layer scale, or none if it has no initial value."""
    return nn.Identity() if initial is None else LayerScale(dim, initial)


class MixerBlock(nn.Module):
    """Mix tokens, then feed forward: x += scale1 * mixer(norm1(x)); x += scale2 * ffn(norm2(x)).

    Shapes: pixels (B, H, W, C), unchanged; the semantics go through the mixer.

    Args:
        shape: Channels, drop path and layer scale.
        mixer: See `dualvit.models.registry.Mixer`.
        ffn: The pixels' feed-forward network; a `ConvFFN` if left out.
    """

    def __init__(self, shape: BlockShape, mixer: nn.Module, ffn: nn.Module | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.dim, eps=EPS)
        self.mixer = mixer
        self.scale1 = scale(shape.dim, shape.layer_scale)
        self.norm2 = nn.LayerNorm(shape.dim, eps=EPS)
        self.ffn = ffn or ConvFFN(shape.dim, shape.hidden)
        self.scale2 = scale(shape.dim, shape.layer_scale)
        self.drop_path = DropPath(shape.drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor | None) -> tuple[Tensor, Tensor | None]:
        update, semantics = self.mixer(self.norm1(pixels), semantics)
        pixels = pixels + self.drop_path(self.scale1(update))
        return pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels)))), semantics
