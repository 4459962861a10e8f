"""Dual-ViT (Yao et al., TPAMI 2023, arXiv 2207.04976), the whole network, to be read from top to bottom.

image --Stem--> pixels -------------> DualBlock x n --Downsample--> MergeBlock x n --...--> ClassBlock --> head
                  |                     |    ^                        |    ^                  ^
                  +--SemanticSeed--> semantics ----------------------> semantics -------------+

pixels    (B, H, W, C)   the map, channels last from the stem on
semantics (B, M, C)      a few tokens that carry the global picture

A Linear and a LayerNorm act on the last axis; a convolution sees the same memory as a channels-last NCHW view, so that
no layer copies. Shapes are read inside the graph, so that an exported model keeps its dynamic batch and size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import DropPath, LayerScale, trunc_normal_
from timm.models import checkpoint, generate_default_cfgs, register_notrace_function
from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.models.contract import Backbone, BlockShape, block_shapes, entrypoints, pretrained_cfg, recomputing
from dualvit.models.published import DUAL_VIT

HEAD_DIM = 32  # channels of an attention head
EPS = 1e-6  # of norm1 and norm2 of dual, merge and class block, of norms after a stage, of the last; others: 1e-5

# ---- attention ------------------------------------------------------------------------------------------------------


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d) + bias) v, head by head: (B, Nq, C), (B, Nk, C), (B, Nk, C) to (B, Nq, C).

    A bias broadcasts to (B, num_heads, Nq, Nk): a number to add to each score, or, as booleans, which keys take part.

    Example:
        >>> q, kv = torch.randn(2, 64, 32), torch.randn(2, 100, 32)
        >>> attend(q, kv, kv, num_heads=4).shape
        torch.Size([2, 64, 32])
    """
    q, k, v = (tokens.unflatten(2, (num_heads, -1)).transpose(1, 2) for tokens in (q, k, v))  # (B, heads, N, d)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)  # (B, Nq, C)


class SelfAttention(nn.Module):
    """Let tokens attend to each other; there is no output projection.

    Shapes: (B, N, C), and a bias as for `attend`, to (B, N, C). Source: Dual-ViT, section 3.2, the semantic pathway.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        return attend(q, k, v, self.num_heads, bias)


class CrossAttention(nn.Module):
    """Let tokens consult a source: queries of `tokens`, keys and values of `source`.

    Given the same tokens twice it is self-attention (merge blocks); given one token it is class attention.

    Shapes: tokens (B, Nq, C), source (B, Nk, C), to (B, Nq, C).
    """

    def __init__(self, dim: int, num_heads: int, project: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim) if project else nn.Identity()

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        k, v = self.kv(source).chunk(2, dim=-1)
        return self.proj(attend(self.q(tokens), k, v, self.num_heads))


# ---- feed-forward networks, stem, downsampling ----------------------------------------------------------------------


class ConvFFN(nn.Module):
    """Feed the pixels forward, with a depthwise 3x3 convolution inside.

    Shapes: (B, H, W, C), unchanged. Source: PVT v2, section 3.2.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.conv(self.fc1(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, hidden)
        return self.fc2(F.gelu(hidden))


class TokenFFN(nn.Module):
    """Feed tokens forward: Linear, activation, Linear. Shapes: (..., C), unchanged."""

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))


class Stem(nn.Module):
    """Turn the image into the first map: convolutions with BatchNorm and ReLU, the first of stride 2; then one more.

    Shapes: (B, in_chans, H, W) to (B, H/4, W/4, dim).
    """

    def __init__(self, in_chans: int, width: int, dim: int, kernel: int = 7, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(1 + depth):
            channels, size, stride = (in_chans, kernel, 2) if index == 0 else (width, 3, 1)
            conv = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(self.conv(image)).permute(0, 2, 3, 1))  # (B, H/4, W/4, dim)


class Downsample(nn.Module):
    """Halve the map and widen both pathways. Shapes: (B, H, W, C), (B, M, C) to (B, H/2, W/2, C'), (B, M, C')."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)
        self.semantic_proj = nn.Linear(dim, out_dim)
        self.semantic_norm = nn.LayerNorm(out_dim)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.norm(self.proj(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))  # (B, H/2, W/2, C')
        return pixels, self.semantic_norm(self.semantic_proj(semantics))


# ---- the first semantics --------------------------------------------------------------------------------------------


def area_weights(size: int, cells: int, like: Tensor) -> Tensor:
    """Return the (cells, size) matrix that averages `size` pixels into `cells` equal, gapless spans.

    A pixel across an edge counts in both spans by its share, so any size works, also one smaller than `cells`.
    """
    pixel = torch.arange(size, device=like.device).unsqueeze(0)  # (1, size)
    cell = torch.arange(cells, device=like.device).unsqueeze(1)  # (cells, 1)
    # In whole units, so exact: pixel i covers i cells to (i + 1) cells, cell j covers j size to (j + 1) size.
    start, end = torch.maximum(pixel * cells, cell * size), torch.minimum((pixel + 1) * cells, (cell + 1) * size)
    overlap = end - start  # (cells, size)
    return (overlap.clamp(min=0) / size).to(like.dtype)  # (cells, size)


@torch.fx.wrap
@register_notrace_function  # torch.fx cannot follow a range of the map's own size
def area_mean(pixels: Tensor, rows: int, columns: int) -> Tensor:
    """Average the map (B, H, W, C) into rows x columns equal, gapless cells, at any H and W.

    Two products do it, since dynamic ONNX has them and lacks adaptive pooling.
    """
    across = torch.matmul(area_weights(pixels.shape[2], columns, pixels), pixels)  # (B, H, columns, C)
    down = torch.matmul(area_weights(pixels.shape[1], rows, pixels), across.flatten(2))  # (B, rows, columns C)
    return down.unflatten(2, (columns, -1))  # (B, rows, columns, C)


class SemanticSeed(nn.Module):
    """Read the first semantics off the stem's map.

    The map is averaged into a grid of cells. A learned query per cell, resampled from an 8x8 grid, attends to all
    cells. A gate mixes, channel by channel, the attended and the averaged values.

    Shapes: pixels (B, H, W, C) to semantics (B, M, C). Source: Dual-ViT, section 3.2.

    Args:
        dim: C.
        grid: None for one cell per 7x7 stem pixels (28x28 of the image), of which a rest of fewer at the right and
            lower edge is not read; (rows, columns) for so many at any size.
    """

    def __init__(self, dim: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.queries = nn.Parameter(torch.empty(64, dim))  # on an 8x8 grid
        self.query_norm = nn.LayerNorm(dim)
        self.query_proj = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 * dim))
        self.norm = nn.LayerNorm(dim)

    def pool(self, pixels: Tensor) -> Tensor:
        """Return the means of the grid's cells, (B, rows, columns, C)."""
        if self.grid is None:
            return F.avg_pool2d(pixels.permute(0, 3, 1, 2), 7).permute(0, 2, 3, 1)  # (B, H // 7, W // 7, C)
        return area_mean(pixels, *self.grid)

    def spread(self, rows: int, columns: int) -> Tensor:
        """Return the query of each of the grid's cells, (1, rows columns, C)."""
        queries = self.queries.transpose(0, 1).unflatten(1, (8, 8)).unsqueeze(0)  # (1, C, 8, 8)
        # Also to 8x8, where it returns its input: without a branch, one graph serves all sizes.
        queries = F.interpolate(queries, size=[rows, columns], mode="bicubic", align_corners=False)
        return queries.flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        cells = self.pool(pixels)  # (B, rows, columns, C)
        queries = self.spread(cells.shape[1], cells.shape[2])  # (1, M, C), M = rows columns
        queries = self.query_proj(self.query_norm(queries))
        pooled = cells.flatten(1, 2)  # (B, M, C)
        k, v = self.kv(pooled).chunk(2, dim=-1)
        attended = attend(queries.expand(pixels.shape[0], -1, -1), k, v, num_heads=1)  # (B, M, C)
        gate = self.gate((attended + pooled).mean(1, keepdim=True))  # (B, 1, 2 C)
        gate = gate.unflatten(2, (2, -1)).softmax(2)  # (B, 1, 2, C), for each channel two shares that sum to 1
        return self.norm(gate[:, :, 0] * attended + gate[:, :, 1] * pooled)


# ---- blocks ---------------------------------------------------------------------------------------------------------


class SemanticUpdate(nn.Module):
    """The semantic pathway: refine the tokens, consult the pixels, feed forward.

    Shapes: semantics (B, M, C), and the pixels as normalised tokens (B, H W, C), to semantics (B, M, C).
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.norm1, self.self_attention = nn.LayerNorm(dim), SelfAttention(dim, num_heads)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2, self.cross_attention = nn.LayerNorm(dim), CrossAttention(dim, num_heads, project=False)
        self.scale2 = LayerScale(dim, layer_scale)
        self.norm3, self.ffn = nn.LayerNorm(dim), TokenFFN(dim, 4 * dim, nn.ReLU)
        self.scale3 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, semantics: Tensor, tokens: Tensor) -> Tensor:
        semantics = semantics + self.drop_path(self.scale1(self.self_attention(self.norm1(semantics))))
        semantics = semantics + self.drop_path(self.scale2(self.cross_attention(self.norm2(semantics), tokens)))
        return semantics + self.drop_path(self.scale3(self.ffn(self.norm3(semantics))))


class DualBlock(nn.Module):
    """Update the semantics from the pixels; then let each pixel consult the semantics. Linear in the pixels.

               +---------------------------------------+   +-----------------------+
               |                                       v   |                       v
    pixels ----+--norm1--+--------> CrossAttention --> + --+--norm2--> ConvFFN --> + --> pixels
                         v                ^
    semantics ---> SemanticUpdate --------+--------------------------------------------> semantics

    Shapes: pixels (B, H, W, C), semantics (B, M, C), both unchanged. Source: Dual-ViT, section 3.2 and figure 2.

    Example:
        >>> block = DualBlock(64, num_heads=2, hidden=512)
        >>> pixels, semantics = block(torch.randn(1, 56, 56, 64), torch.randn(1, 64, 64))
        >>> pixels.shape, semantics.shape
        (torch.Size([1, 56, 56, 64]), torch.Size([1, 64, 64]))
    """

    def __init__(
        self, dim: int, num_heads: int, hidden: int, drop_path: float = 0.0, layer_scale: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.semantic_update = SemanticUpdate(dim, num_heads, drop_path, layer_scale)
        self.semantic_norm = nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = ConvFFN(dim, hidden)
        self.scale2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norm1(pixels).flatten(1, 2)  # (B, H W, C)
        semantics = self.semantic_update(semantics, tokens)  # (B, M, C)
        attended = self.attention(tokens, self.semantic_norm(semantics)).view(pixels.shape)  # (B, H, W, C)
        pixels = pixels + self.drop_path(self.scale1(attended))
        return pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels)))), semantics


class MergeBlock(nn.Module):
    """Let pixels and semantics attend to each other as one sequence. Quadratic in the pixels, or linear by `key_grid`.

    pixels ----+--> tokens --norm1--> CrossAttention --> + --norm2--+--> ConvFFN ---> + --> pixels
    semantics -+                                                    +--> TokenFFN --> + --> semantics

    The tokens are added behind the attention (the first +), and each pathway behind its own network (the second).

    Shapes: pixels (B, H, W, C), semantics (B, M, C), both unchanged. Source: Dual-ViT, section 3.3.

    Args:
        dim, num_heads: C, and attention heads.
        hidden: Channels inside the pixels' feed-forward network.
        drop_path, layer_scale: Of both residuals.
        key_grid: None for the paper's form; or (rows, columns) of cells whose means stand for the pixels as keys and
            values. On a map of just that size both forms are the same.
    """

    def __init__(
        self, dim: int, num_heads: int, hidden: int, drop_path: float = 0.0, layer_scale: float = 1e-6,
        key_grid: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.key_grid = key_grid
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = ConvFFN(dim, hidden)
        self.semantic_ffn: nn.Module | None = TokenFFN(dim, 2 * dim)  # None: nothing reads the semantics any more
        self.scale2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([pixels.flatten(1, 2), semantics], dim=1)  # (B, H W + M, C)
        normed = self.norm1(tokens)
        # Queries are all tokens; keys are the same, which makes it self-attention, or fewer by `key_grid`.
        tokens = tokens + self.drop_path(self.scale1(self.attention(normed, self.keys(normed, pixels))))
        pixels, semantics = split(tokens, pixels)
        # Both pathways have one norm and one scale, as in the paper's code.
        pixels = pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels))))
        if self.semantic_ffn is not None:
            semantics = semantics + self.drop_path(self.scale2(self.semantic_ffn(self.norm2(semantics))))
        return pixels, semantics

    def keys(self, normed: Tensor, pixels: Tensor) -> Tensor:
        """Return the tokens that are keys and values, (B, Nk, C): all, or means of the pixels with the semantics."""
        if self.key_grid is None:
            return normed
        normed_pixels, normed_semantics = split(normed, pixels)
        means = area_mean(normed_pixels, *self.key_grid).flatten(1, 2)  # (B, rows columns, C)
        return torch.cat([means, normed_semantics], dim=1)  # (B, rows columns + M, C)


def split(tokens: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels of one sequence (B, H W + M, C), in the shape of `pixels`, and its semantics (B, M, C)."""
    count = pixels.shape[1] * pixels.shape[2]
    return tokens[:, :count].reshape(pixels.shape), tokens[:, count:]


class ClassBlock(nn.Module):
    """Make the mean of all tokens a class token, which attends to them once.

    Shapes: tokens (B, N, C) to the class token (B, 1, C). Source: the class attention of CaiT, as VOLO uses it.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = TokenFFN(dim, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        token = tokens.mean(1, keepdim=True)  # (B, 1, C)
        normed = self.norm1(torch.cat([token, tokens], dim=1))  # (B, 1 + N, C)
        token = token + self.attention(normed[:, :1], normed)
        return token + self.ffn(self.norm2(token))


# ---- the network ----------------------------------------------------------------------------------------------------


class Stage(nn.Module):
    """Run the blocks at one resolution, after the downsampling and before the norms.

    Shapes: pixels (B, H, W, C) and semantics to (B, H/2, W/2, C') and semantics of C' channels.

    Args:
        downsample: None in the first stage.
        blocks: In their order.
        norm_dim: C' of the norms; None in the last stage, whose norm is the model's, after the class block.
        norm_semantics: False if there are no semantics.
    """

    def __init__(
        self, downsample: nn.Module | None, blocks: list[nn.Module], norm_dim: int | None, norm_semantics: bool = True
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm_dim is None else nn.LayerNorm(norm_dim, eps=EPS)
        normed = norm_dim is not None and norm_semantics
        self.semantic_norm = nn.LayerNorm(norm_dim, eps=EPS) if normed else None

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        if self.downsample is not None:
            pixels, semantics = self.downsample(pixels, semantics)
        for block in self.blocks:
            if self.grad_checkpointing:  # compute it again in the backward pass
                pixels, semantics = checkpoint(block, pixels, semantics, context_fn=partial(recomputing, block))
            else:
                pixels, semantics = block(pixels, semantics)
        if self.semantic_norm is not None:
            semantics = self.semantic_norm(semantics)
        return self.norm(pixels), semantics


@dataclass(frozen=True)
class DualViTConfig:
    """The shape of a Dual-ViT; the defaults are those that all published sizes share.

    Attributes:
        stem_width: Channels inside the stem.
        dims: Channels of the four stages, each a multiple of 32.
        depths: Blocks of the four stages.
        ffn_ratios: Hidden width over C of the pixels' feed-forward network; a stage's blocks take its values in turn.
        dual_stages: How many stages, from the first, have dual blocks; the rest have merge blocks.
        semantic_grid: None for one semantic token per 28x28 image pixels, or (rows, columns).
        key_grid: None for the paper's merge blocks, or (rows, columns) of the means that stand for the pixels as keys
            in the first merge stage, half as many in the next. With (14, 14) and semantic_grid=(8, 8) the cost is
            linear at any size, and at 224x224 the output is the paper's.
        drop_path_rate: Drop path of the last block; it rises linearly from 0.
        layer_scale: Initial value of every layer scale.
        linear_std: Standard deviation of a new Linear's weights; None for 1 / sqrt(inputs), with which every branch
            is at work from the first step: for runs too short to wake branches that start near zero.
        stem_kernel, stem_depth: Kernel of the first convolution, and further convolutions after it.
    """

    stem_width: int
    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    ffn_ratios: tuple[tuple[int, ...], ...] = ((8,), (8,), (4, 3), (3,))
    dual_stages: int = 2
    semantic_grid: tuple[int, int] | None = None
    key_grid: tuple[int, int] | None = None
    drop_path_rate: float = 0.15
    layer_scale: float = 1e-6
    linear_std: float | None = 0.02
    stem_kernel: int = 7
    stem_depth: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.dual_stages <= 4:
            raise InputError(f"dual_stages is {self.dual_stages}; give 0 to 4 of the four stages")
        if self.key_grid is not None and self.dual_stages == 4:
            raise InputError("key_grid is for merge blocks, and dual_stages=4 leaves none; give fewer, or leave it out")


CONFIGS = {
    "dualvit_s": DualViTConfig(stem_width=32, dims=(64, 128, 320, 448), depths=(3, 4, 6, 3)),
    "dualvit_b": DualViTConfig(stem_width=64, dims=(64, 128, 320, 512), depths=(3, 4, 15, 3)),
    "dualvit_l": DualViTConfig(stem_width=64, dims=(96, 192, 384, 512), depths=(3, 6, 21, 3), drop_path_rate=0.3),
}


class DualViT(Backbone):
    """The Dual Vision Transformer with timm's model interface.

    Args:
        config: Shape of the network; see `CONFIGS` for the published ones.
        num_classes: Classes; 0 leaves the heads out.
        in_chans: Channels of the image.
        global_pool: "token" for the class token, "avg" for the mean of the pixels, "" for none.
        token_label: Keep the token-labelling head: half of its largest logit over all pixels is added to the class
            logits, as with the published weights.
        drop_rate: Dropout before the heads.

    Shapes: images (B, in_chans, H, W), normalised, H and W from 32 on, to logits (B, num_classes). Sides that are no
    multiples of 32 or 112 are padded, see `pad_image`; the maps that `forward_intermediates` returns are cropped.

    Raises:
        ValueError: a side below 32, or a bad option.

    Example:
        >>> import dualvit
        >>> model = dualvit.create_model("dualvit_n", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self, config: DualViTConfig = CONFIGS["dualvit_s"], num_classes: int = 1000, in_chans: int = 3,
        global_pool: str = "token", token_label: bool = True, drop_rate: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(config.dims, in_chans, config.linear_std, drop_rate)
        dim = self.num_features
        self.token_label = token_label
        self.stem = self.build_stem(config)
        self.seed: nn.Module | None = self.build_seed(config)
        self.stages = nn.ModuleList(self.build_stages(config))
        self.class_block: nn.Module | None = ClassBlock(dim, dim // HEAD_DIM, 2 * dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.reset_classifier(num_classes, global_pool)
        self.init_weights()
        self.register_load_state_dict_pre_hook(DUAL_VIT.adopt)

    def forward(self, image: Tensor) -> Tensor:
        # `forward_head(forward_features(image))`, written out to be read.
        pixels, semantics = self.begin(self.padded(image))  # (B, H/4, W/4, C1), (B, M, C1)
        for stage in self.stages:  # first the dual ones, then the merge ones
            pixels, semantics = stage(pixels, semantics)
        return self.forward_head(self.finish(pixels, semantics))

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two values that flow through the stages: pixels (B, H/4, W/4, C1), semantics (B, M, C1)."""
        pixels = self.stem(image)
        return pixels, self.seed(pixels)  # type: ignore[misc]

    def finish(self, pixels: Tensor, semantics: Tensor) -> Tensor:
        """Return (B, 1 + H/32, W/32, C4), normalised: the class token in each column of row 0, then the pixels.

        A feature extractor has no class block, and so no row 0.
        """
        if self.class_block is None:  # pruned to a feature extractor
            return self.norm(pixels)
        token = self.class_block(torch.cat([pixels.flatten(1, 2), semantics], dim=1))  # (B, 1, C4)
        row = token.unsqueeze(1).expand(-1, -1, pixels.shape[2], -1)  # (B, 1, W/32, C4)
        return self.norm(torch.cat([row, pixels], dim=1))

    def build_stem(self, config: DualViTConfig) -> nn.Module:
        """Return the module that makes the first map."""
        return Stem(self.in_chans, config.stem_width, config.dims[0], config.stem_kernel, config.stem_depth)

    def build_seed(self, config: DualViTConfig) -> nn.Module | None:
        """Return the module that makes the first semantics."""
        return SemanticSeed(config.dims[0], config.semantic_grid)

    def build_stages(self, config: DualViTConfig) -> Iterator[Stage]:
        """Yield the four stages."""
        for shapes in block_shapes(config, HEAD_DIM, config.ffn_ratios):
            stage, dim = shapes[0].stage, shapes[0].dim
            downsample = self.build_downsample(config.dims[stage - 1], dim) if stage else None
            blocks = [self.build_block(shape, config) for shape in shapes]
            yield Stage(downsample, blocks, dim if stage < 3 else None, norm_semantics=self.seed is not None)

    def build_downsample(self, dim: int, out_dim: int) -> nn.Module:
        """Return the module between two stages."""
        return Downsample(dim, out_dim)

    def build_block(self, shape: BlockShape, config: DualViTConfig) -> nn.Module:
        """Return one block."""
        return dual_block(shape, config)

    def feature_map(self, index: int, before: Tensor, after: Tensor) -> Tensor:
        """Return the map after a stage; the last one by the model's norm, an Identity once that stage is pruned."""
        return self.norm(after) if index == len(self.stages) - 1 else after

    def prune_semantics(self) -> None:
        """Drop the class block, and each module that updates the semantics after their last reader."""
        final = self.stages[-1]
        final.semantic_norm = None  # type: ignore[assignment]
        if isinstance(final.blocks[-1], MergeBlock):  # type: ignore[index]
            final.blocks[-1].semantic_ffn = None  # type: ignore[index]
        self.class_block = None

    def _init_module(self, module: nn.Module) -> None:
        """Initialise Linears by a truncated normal, convolutions by fan-out, norms to 1 and 0."""
        super()._init_module(module)
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SemanticSeed):
            trunc_normal_(module.queries, std=0.02)


def dual_block(shape: BlockShape, config: DualViTConfig) -> nn.Module:
    """Return a block of Dual-ViT: dual in the first `dual_stages`, merge in the others."""
    args = (shape.dim, shape.num_heads, shape.hidden, shape.drop_path, config.layer_scale)
    if shape.stage < config.dual_stages:
        return DualBlock(*args)
    if config.key_grid is None:
        return MergeBlock(*args)
    halvings = shape.stage - config.dual_stages  # of the map, since the first merge stage
    rows, columns = (max(side >> halvings, 1) for side in config.key_grid)
    return MergeBlock(*args, (rows, columns))


# ---- timm -----------------------------------------------------------------------------------------------------------

default_cfgs = generate_default_cfgs(
    {name: pretrained_cfg(first_conv="stem.conv.0", classifier=("head", "aux_head")) for name in CONFIGS}
)
dualvit_s, dualvit_b, dualvit_l = entrypoints(__name__, DualViT, CONFIGS)
