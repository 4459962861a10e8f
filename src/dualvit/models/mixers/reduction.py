"""Spatial reduction: attention to a map that is smaller."""

import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import CrossAttention, DualViTConfig
from dualvit.models.mixers import windows
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.registry import Mixer, register_mixer

POOL = 7  # rows and columns of the averaged map, at any image size
RATIOS = (8, 4, 2, 1)  # in PVT's and Twins' four stages


class ReductionMixer(nn.Module):
    """Let all pixels consult a reduced map.

    out = Linear(Attention(query x, key and value r(x))). By strides, r(x) is LayerNorm(Conv(x)), a convolution of
    kernel and stride `ratio`; r(x) = x for ratio 1. By averages (`pool`), r(x) is
    GELU(LayerNorm(Conv1x1(x averaged into 7x7 cells))), whose cost is linear in the number of pixels. Cells at the far
    edges that the map does not fill are filled up with zeros, as a convolution's are; none is empty.

    Shapes: pixels (B, H, W, C) to their update; semantics are handed on. Source: PVT, arXiv 2102.12122, eqs. 1 to 3;
    linear SRA of PVT v2, arXiv 2106.13797, section 3.1 (its "li" sizes).

    Args:
        dim, num_heads: C, and attention heads.
        ratio: Side of a reduced cell in pixels; PVT has 8, 4, 2, 1 in its four stages.
        pool: Average instead, into 7x7 cells at any size; `ratio` is not used then.
    """

    def __init__(self, dim: int, num_heads: int, ratio: int = 1, pool: bool = False) -> None:
        super().__init__()
        self.ratio = 1 if pool else ratio
        self.pool = pool
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.reduce: nn.Module | None = None
        self.norm: nn.Module | None = None
        if pool or ratio > 1:
            self.reduce = nn.Conv2d(dim, dim, self.ratio, stride=self.ratio)
            self.norm = nn.LayerNorm(dim)

    def reduced(self, pixels: Tensor) -> Tensor:
        """Return r(x), (B, cells, C)."""
        if self.reduce is None or self.norm is None:
            return pixels.flatten(1, 2)
        cells = windows.pad_to_multiple(pixels, self.ratio).permute(0, 3, 1, 2)  # (B, C, H', W')
        if self.pool:
            cells = F.adaptive_avg_pool2d(cells, (POOL, POOL))
        tokens = self.norm(self.reduce(cells).flatten(2).transpose(1, 2))  # (B, cells, C)
        return F.gelu(tokens) if self.pool else tokens

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        update = self.attention(pixels.flatten(1, 2), self.reduced(pixels))
        return update.view(pixels.shape), semantics


def reduction_block(shape: BlockShape, config: DualViTConfig) -> nn.Module:
    """Return PVT's block: cells of 8, 4, 2, 1 pixels in stages 1 to 4."""
    return MixerBlock(shape, ReductionMixer(shape.dim, shape.num_heads, RATIOS[shape.stage]))


register_mixer("reduction", Mixer(ReductionMixer, reduction_block))
