"""Full self-attention, and spatial reduction: full attention to a map that is smaller."""

import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.nn.attention import CrossAttention
from dualvit.nn.mixers.windows import pad_to_multiple

POOL = 7  # rows and columns of the averaged map, at any image size


class FullMixer(nn.Module):
    """Each pixel attends to every pixel: out = Linear(softmax(Q K^T / sqrt(d)) V), Q, K, V Linears of the pixels.

    The cost is quadratic in the number of pixels.

    Shapes: pixels (B, H, W, C) to their update; any context is handed on. Source: ViT, arXiv 2010.11929, eq. 2.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, num_heads, project=True)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens = pixels.flatten(1, 2)
        return self.attention(tokens, tokens).view(pixels.shape), context


class ReductionMixer(nn.Module):
    """Spatial reduction attention: queries of all pixels, keys and values of a reduced map.

    out = Linear(Attention(query x, key and value r(x))). By strides, r(x) is LayerNorm(Conv(x)), a
    convolution of kernel and stride `ratio`; r(x) = x for ratio 1. By averages (`pool`), r(x) is
    GELU(LayerNorm(Conv1x1(x averaged into 7x7 cells))), whose cost is linear in the number of pixels.
    Cells at the far edges that the map does not fill are filled up with zeros, as a convolution's are;
    none is empty.

    Shapes: pixels (B, H, W, C) to their update; any context is handed on. Source: PVT, arXiv 2102.12122,
    eqs. 1 to 3; linear SRA of PVT v2, arXiv 2106.13797, section 3.1 (its "li" sizes).

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
        self.cells = (POOL, POOL)
        self.reduce: nn.Module | None = None
        self.norm: nn.Module | None = None
        if pool or ratio > 1:
            self.reduce = nn.Conv2d(dim, dim, self.ratio, stride=self.ratio)
            self.norm = nn.LayerNorm(dim)

    def reduced(self, pixels: Tensor) -> Tensor:
        """r(x) as (B, cells, C)."""
        if self.reduce is not None and self.norm is not None:
            cells = pad_to_multiple(pixels, self.ratio).permute(0, 3, 1, 2)
            if self.pool:
                cells = F.adaptive_avg_pool2d(cells, self.cells)
            tokens = self.norm(self.reduce(cells).flatten(2).transpose(1, 2))
            return F.gelu(tokens) if self.pool else tokens
        return pixels.flatten(1, 2)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        update = self.attention(pixels.flatten(1, 2), self.reduced(pixels))
        return update.view(pixels.shape), context
