"""Regional-to-local attention: regional tokens, one a window, carry what windows need to know of each other."""

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import DropPath, trunc_normal_
from timm.models import register_notrace_function
from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import EPS, ConvFFN, SelfAttention
from dualvit.models.mixers import windows
from dualvit.models.mixers.block import scale
from dualvit.models.registry import Mixer, register_mixer

WINDOW = 7


@torch.fx.wrap
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
    """Make the first regional tokens: each is a Linear of the 28x28 image pixels that a window covers.

    Shapes: image (B, in_chans, H, W) to (B, ceil(H/28), ceil(W/28), dim). Source: RegionViT, section 3.1.
    """

    def __init__(self, in_chans: int, dim: int, patch: int = 4 * WINDOW) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_chans, dim, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        padded = windows.pad_to_multiple(image.permute(0, 2, 3, 1), self.patch)
        return self.proj(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class WindowMeans(nn.Module):
    """Average each window, cut off at the far edges: (B, H, W, C) to (B, ceil(H/7), ceil(W/7), C)."""

    def forward(self, pixels: Tensor) -> Tensor:
        return F.avg_pool2d(pixels.permute(0, 3, 1, 2), WINDOW, ceil_mode=True).permute(0, 2, 3, 1)


class RegionalMixer(nn.Module):
    """Let regional tokens attend to each other; then each window attends with its own regional token.

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
        self.norm0 = nn.LayerNorm(dim, eps=EPS)
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attention = SelfAttention(dim, num_heads)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos = nn.Parameter(torch.zeros(num_heads, (2 * window - 1) ** 2))
        trunc_normal_(self.rel_pos, std=0.02)
        self.scale0 = scale(dim, layer_scale)
        self.scale1 = scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        regions = check_regions(semantics, pixels, self.window)
        tokens = regions.flatten(1, 2)
        tokens = tokens + self.drop_path(self.scale0(self.proj(self.attention(self.norm0(tokens)))))

        inside, valid = windows.split_windows(pixels, self.window)
        own = self.norm1(tokens).flatten(0, 1).unsqueeze(1)
        bias = region_bias(self.rel_pos, self.window, valid)
        mixed = self.proj(self.attention(torch.cat([own, inside], dim=1), bias))
        tokens = tokens + self.drop_path(self.scale1(mixed[:, 0].view(tokens.shape)))
        update = windows.merge_windows(mixed[:, 1:], self.window, pixels)
        return update, tokens.view(regions.shape)


class RegionalBlock(nn.Module):
    """The block of regional-to-local attention: pixels and regional tokens share norms and feed-forward network.

    Shapes: pixels (B, H, W, C), regional tokens (B, h, w, C), both unchanged. Source: RegionViT, eq. 1.

    Args:
        shape: Channels, heads, drop path and layer scale.
        ffn: The feed-forward network of both; a `ConvFFN` if left out.
    """

    def __init__(self, shape: BlockShape, ffn: nn.Module | None = None) -> None:
        super().__init__()
        dim, initial = shape.dim, shape.layer_scale
        self.mixer = RegionalMixer(dim, shape.num_heads, drop_path=shape.drop_path, layer_scale=initial)
        self.scale1 = scale(dim, initial)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = ffn or ConvFFN(dim, shape.hidden)
        self.scale2 = scale(dim, initial)
        self.drop_path = DropPath(shape.drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        update, semantics = self.mixer(self.mixer.norm1(pixels), semantics)
        pixels = pixels + self.drop_path(self.scale1(update))
        pixels = pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels))))
        return pixels, semantics + self.drop_path(self.scale2(self.ffn(self.norm2(semantics))))

    def prune_semantics(self) -> None:
        """Drop the regional scale of the last block: nothing reads its tokens, so it would get no gradient."""
        self.mixer.scale1 = nn.Identity()


@torch.fx.wrap
@register_notrace_function
def check_regions(regions: Tensor | None, pixels: Tensor, window: int) -> Tensor:
    """Return the regional tokens if there is one for each window; else raise ValueError."""
    rows, columns = -(-pixels.shape[1] // window), -(-pixels.shape[2] // window)
    if regions is None:
        raise InputError(f"regional attention needs regional tokens; give (B, {rows}, {columns}, C)")
    if regions.shape[1] != rows or regions.shape[2] != columns:
        raise InputError(
            f"{regions.shape[1]}x{regions.shape[2]} regional tokens for {rows}x{columns} windows; give one each"
        )
    return regions


register_mixer(
    "regional",
    Mixer(
        RegionalMixer,
        lambda shape, config: RegionalBlock(shape),
        lambda in_chans, config: RegionalSeed(in_chans, config.dims[0]),
        seed_reads_image=True,
        map_seed=lambda dim, config: WindowMeans(),
    ),
)
