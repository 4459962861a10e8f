"""Attention inside windows, and beyond them: Twins-SVT's two kinds of block."""

from torch import Tensor, nn

from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import DualViTConfig, SelfAttention
from dualvit.models.mixers import windows
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.reduction import RATIOS, ReductionMixer
from dualvit.models.registry import Mixer, register_mixer

WINDOW = 7


class WindowAttention(nn.Module):
    """Let the pixels of a window attend to each other, "locally grouped": out = Linear(Attention(window)).

    Windows lie side by side from the top left; padded pixels are masked out.

    Shapes: pixels (B, H, W, C) to their update; semantics are handed on. Source: Twins, arXiv 2104.13840,
    section 3.2 (LSA).
    """

    def __init__(self, dim: int, num_heads: int, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.attention = SelfAttention(dim, num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens, valid = windows.split_windows(pixels, self.window)
        if valid is not None:
            valid = valid.unsqueeze(1).unsqueeze(1)  # for each head and query
        tokens = self.attention(tokens, valid)
        return self.proj(windows.merge_windows(tokens, self.window, pixels)), semantics


class LocalMixer(nn.Module):
    """Look inside windows in one block, and at a reduced map in the next: Twins' spatially separable attention.

    Block 0, 2, 4...: locally-grouped attention in windows (LSA). Block 1, 3, 5...: global sub-sampled
    attention (GSA), the same as PVT's spatial reduction.

    Shapes: pixels (B, H, W, C) to their update; semantics are handed on. Source: Twins-SVT, arXiv
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

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.attention(pixels, semantics)


def local_block(shape: BlockShape, config: DualViTConfig) -> nn.Module:
    """Return Twins' block: 7x7 windows and reduction (8, 4, 2, 1 by stage) in turn, counted over all blocks."""
    mixer = LocalMixer(shape.dim, shape.num_heads, ratio=RATIOS[shape.stage], block=shape.number)
    return MixerBlock(shape, mixer)


register_mixer("local", Mixer(LocalMixer, local_block))
