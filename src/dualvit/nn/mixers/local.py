"""Attention inside windows, and beyond them: Twins-SVT's two kinds of block."""

from torch import Tensor, nn

from dualvit.nn.attention import SelfAttention
from dualvit.nn.mixers.full import ReductionMixer
from dualvit.nn.mixers.windows import merge_windows, split_windows

WINDOW = 7


class WindowAttention(nn.Module):
    """Locally-grouped self-attention: the pixels of a window attend to each other, out = Linear(Attention(window)).

    Windows lie side by side from the top left; padded pixels are masked out.

    Shapes: pixels (B, H, W, C) to their update; any context is handed on. Source: Twins, arXiv 2104.13840,
    section 3.2 (LSA).
    """

    def __init__(self, dim: int, num_heads: int, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.attention = SelfAttention(dim, num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens, valid = split_windows(pixels, self.window)
        if valid is not None:
            valid = valid.unsqueeze(1).unsqueeze(1)  # for each head and query
        tokens = self.attention(tokens, valid)
        return self.proj(merge_windows(tokens, self.window, pixels.shape[1], pixels.shape[2])), context


class LocalMixer(nn.Module):
    """Twins' spatially separable attention: one block looks inside windows, the next at a reduced map.

    Block 0, 2, 4...: locally-grouped attention in windows (LSA). Block 1, 3, 5...: global sub-sampled
    attention (GSA), the same as PVT's spatial reduction.

    Shapes: pixels (B, H, W, C) to their update; any context is handed on. Source: Twins-SVT, arXiv
    2104.13840, eq. 3.

    Args:
        dim, num_heads: C, and attention heads.
        window: Side of a window in pixels.
        ratio: Side of a reduced cell; Twins has 8, 4, 2, 1 in its four stages.
        block: Number of the block, from 0.
    """

    def __init__(self, dim: int, num_heads: int, window: int = WINDOW, ratio: int = 1, block: int = 0) -> None:
        super().__init__()
        self.attention: nn.Module
        if block % 2 == 0:
            self.attention = WindowAttention(dim, num_heads, window)
        else:
            self.attention = ReductionMixer(dim, num_heads, ratio)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.attention(pixels, context)
