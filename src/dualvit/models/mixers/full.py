"""Full self-attention: each pixel attends to every pixel."""

from torch import Tensor, nn

from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import CrossAttention, DualViTConfig
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.registry import Mixer, register_mixer


class FullMixer(nn.Module):
    """Let each pixel attend to every pixel: out = Linear(softmax(Q K^T / sqrt(d)) V), Q, K, V Linears of the pixels.

    The cost is quadratic in the number of pixels.

    Shapes: pixels (B, H, W, C) to their update; semantics are handed on. Source: ViT, arXiv 2010.11929, eq. 2.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, num_heads, project=True)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens = pixels.flatten(1, 2)  # (B, H W, C)
        return self.attention(tokens, tokens).view(pixels.shape), semantics


def full_block(shape: BlockShape, config: DualViTConfig) -> nn.Module:
    """Return a block of full attention, the same in all stages."""
    return MixerBlock(shape, FullMixer(shape.dim, shape.num_heads))


register_mixer("full", Mixer(FullMixer, full_block))
