"""Regional-to-local attention: regional tokens, one a window, carry what windows need to know of each other."""

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerScale, trunc_normal_
from timm.models import register_notrace_function
from torch import Tensor, nn

from dualvit.nn.attention import SelfAttention
from dualvit.nn.blocks import BLOCK_EPS
from dualvit.nn.mixers.windows import merge_windows, pad_to_multiple, split_windows

WINDOW = 7


@register_notrace_function
def region_bias(table: Tensor, window: int, valid: Tensor | None) -> Tensor:
    """What is added to the scores of [regional token; window]: a bias by offset, and -inf at padded keys.

    `table` (heads, (2 window - 1)^2) holds a value for each offset key - query, by rows and columns.
    The published code looks offsets up at `offset + window // 2`, where negative indices wrap around,
    so the table starts in the middle; rolling brings offset -(window - 1) to the front. The regional
    token has no bias.

    Returns:
        (windows or 1, heads, 1 + window^2, 1 + window^2).
    """
    shift = window - 1 - window // 2
    table = table.unflatten(1, [2 * window - 1, 2 * window - 1]).roll([shift, shift], [1, 2])
    # Row y of the keys' offsets starts at -(window - 1) for the last query row, so views run backwards.
    bias = table.unfold(1, window, 1).unfold(2, window, 1).flip([1, 2])  # heads, query y, x, key y, x
    bias = F.pad(bias.flatten(3).flatten(1, 2), (1, 0, 1, 0)).unsqueeze(0)
    if valid is None:
        return bias
    keys = F.pad(valid, (1, 0), value=True)
    return bias.masked_fill(~keys.unsqueeze(1).unsqueeze(1), float("-inf"))


class RegionalSeed(nn.Module):
    """The first regional tokens: each is a Linear of the 28x28 image pixels that a window covers.

    Shapes: image (B, in_chans, H, W) to (B, ceil(H/28), ceil(W/28), dim). Source: RegionViT, section 3.1.
    """

    def __init__(self, in_chans: int, dim: int, patch: int = 4 * WINDOW) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_chans, dim, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        padded = pad_to_multiple(image.permute(0, 2, 3, 1), self.patch)
        return self.proj(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class RegionalMixer(nn.Module):
    """Regional tokens attend to each other; then each window attends with its own regional token.

    With r the regional tokens and x_w the pixels of window w, one attention for both steps:
    r' = r + RSA(LayerNorm0(r)); y_w = LSA([LayerNorm1(r'_w); x_w]), with a learned bias by offset between
    pixels; r_w = r'_w + y_w[0], and y_w[1:] is the window's update. The pixels must come normalised by
    `norm1`, which the paper shares between both kinds of token (`RegionalBlock` does so).

    Shapes: normalised pixels (B, H, W, C) and regional tokens (B, ceil(H/window), ceil(W/window), C)
    to the pixels' update and the new regional tokens. Source: RegionViT, arXiv 2106.02689, eq. 1.

    Args:
        dim, num_heads: C, and attention heads.
        window: Side of a window in pixels.
        drop_path: Drop path of the regional tokens' residuals.
        layer_scale: Initial layer scale of these, or None for none.

    Raises:
        ValueError: no regional tokens, or not one for each window.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int = WINDOW,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.norm0 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.attention = SelfAttention(dim, num_heads)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos = nn.Parameter(torch.zeros(num_heads, (2 * window - 1) ** 2))
        trunc_normal_(self.rel_pos, std=0.02)
        self.scale0 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        regions = check_regions(context, pixels, self.window)
        tokens = regions.flatten(1, 2)
        tokens = tokens + self.drop_path(self.scale0(self.proj(self.attention(self.norm0(tokens)))))

        windows, valid = split_windows(pixels, self.window)
        own = self.norm1(tokens).flatten(0, 1).unsqueeze(1)
        bias = region_bias(self.rel_pos, self.window, valid)
        mixed = self.proj(self.attention(torch.cat([own, windows], dim=1), bias))
        tokens = tokens + self.drop_path(self.scale1(mixed[:, 0].view(tokens.shape)))
        update = merge_windows(mixed[:, 1:], self.window, pixels.shape[1], pixels.shape[2])
        return update, tokens.view(regions.shape)


@register_notrace_function
def check_regions(regions: Tensor | None, pixels: Tensor, window: int) -> Tensor:
    """Return the regional tokens if there is one for each window; else raise ValueError."""
    rows, columns = -(-pixels.shape[1] // window), -(-pixels.shape[2] // window)
    if regions is None:
        raise ValueError(f"regional attention needs regional tokens; give (B, {rows}, {columns}, C)")
    if regions.shape[1] != rows or regions.shape[2] != columns:
        raise ValueError(
            f"{regions.shape[1]}x{regions.shape[2]} regional tokens for {rows}x{columns} windows; give one each"
        )
    return regions
