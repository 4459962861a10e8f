"""The block around a mixer: norm, mixer, residual; norm, feed-forward network, residual."""

import torch
from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

from dualvit.nn.blocks import BLOCK_EPS
from dualvit.nn.fuse import fold_scale
from dualvit.nn.mixers.regional import RegionalMixer


def _scale(dim: int, initial: float | None) -> nn.Module:
    return nn.Identity() if initial is None else LayerScale(dim, initial)


class MixerBlock(nn.Module):
    """Mix tokens, then feed forward: x += scale1 * mixer(norm1(x)); x += scale2 * ffn(norm2(x)).

    Shapes: pixels (B, H, W, C), unchanged; the context goes through the mixer.

    Args:
        dim: C.
        mixer: See `dualvit.nn.mixers`.
        ffn: The pixels' feed-forward network.
        drop_path: Drop path of both residuals.
        layer_scale: Initial value of both layer scales, or None for none.
    """

    def __init__(
        self, dim: int, mixer: nn.Module, ffn: nn.Module, drop_path: float = 0.0, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.mixer = mixer
        self.scale1 = _scale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.ffn = ffn
        self.scale2 = _scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        update, context = self.mixer(self.norm1(pixels), context)
        pixels = pixels + self.drop_path(self.scale1(update))
        pixels = pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels))))
        return pixels, context

    @torch.jit.ignore
    def fold(self) -> None:
        """The second layer scale goes into the Linear before it; before the first one is any mixer."""
        self.scale2 = fold_scale(self.scale2, self.ffn.fc2)


class RegionalBlock(nn.Module):
    """The block of regional-to-local attention: pixels and regional tokens share norms and feed-forward network.

    Shapes: pixels (B, H, W, C), regional tokens (B, h, w, C), both unchanged. Source: RegionViT, eq. 1.

    Args:
        dim, num_heads: C, and attention heads.
        ffn: The feed-forward network of both.
        drop_path: Drop path of all residuals.
        layer_scale: Initial value of all layer scales, or None for none.
    """

    def __init__(
        self, dim: int, num_heads: int, ffn: nn.Module, drop_path: float = 0.0, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.mixer = RegionalMixer(dim, num_heads, drop_path=drop_path, layer_scale=layer_scale)
        self.scale1 = _scale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.ffn = ffn
        self.scale2 = _scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        update, context = self.mixer(self.mixer.norm1(pixels), context)
        pixels = pixels + self.drop_path(self.scale1(update))
        pixels = pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels))))
        if context is not None:
            context = context + self.drop_path(self.scale2(self.ffn(self.norm2(context))))
        return pixels, context

    @torch.jit.ignore
    def fold(self) -> None:
        """The second layer scale goes into the Linear before it; the first has one Linear with the tokens' own."""
        self.scale2 = fold_scale(self.scale2, self.ffn.fc2)

    @torch.jit.ignore
    def prune_context(self) -> None:
        """Drop the regional scale of the last block, where nothing reads the tokens: it would get no gradient."""
        self.mixer.scale1 = nn.Identity()
