"""The blocks: dual (two pathways), merge (one sequence of both) and class.

Each takes `pixels` (B, H, W, C) and, as the context beside them, semantics (B, M, C).
"""

from typing import TYPE_CHECKING

import torch
from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

from dualvit.nn.attention import CrossAttention, SelfAttention, absorbing_saves
from dualvit.nn.fuse import Shift, fold_scale, take_value_bias
from dualvit.nn.layers import ConvFFN, TokenFFN
from dualvit.nn.semantics import area_mean

BLOCK_EPS = 1e-6  # of a block's two norms; every norm inside a pathway keeps PyTorch's 1e-5


def given(semantics: Tensor | None) -> Tensor:
    """The semantics, which must be there; networks of other mixers carry none."""
    if semantics is None:
        raise ValueError("this block needs semantics; give (B, M, C), as SemanticSeed makes them")
    return semantics


class SemanticUpdate(nn.Module):
    """The semantic pathway of a dual block: refine the tokens, consult the pixels, feed forward.

    Shapes: semantics (B, M, C) and normalised pixels (B, N, C) to semantics (B, M, C).
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float, layer_scale: float, few: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.self_attention = SelfAttention(dim, num_heads)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attention = CrossAttention(dim, num_heads, project=False, few="tokens" if few else "")
        self.scale2 = LayerScale(dim, layer_scale)
        self.norm3 = nn.LayerNorm(dim)
        self.ffn = TokenFFN(dim, 4 * dim, nn.ReLU)
        self.scale3 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, semantics: Tensor, pixels: Tensor) -> Tensor:
        semantics = semantics + self.drop_path(self.scale1(self.self_attention(self.norm1(semantics))))
        semantics = semantics + self.drop_path(self.scale2(self.cross_attention(self.norm2(semantics), pixels)))
        return semantics + self.drop_path(self.scale3(self.ffn(self.norm3(semantics))))

    @torch.jit.ignore
    def fold(self) -> None:
        """Layer scales go into the values and into the last Linear; the values' bias waits for the few tokens."""
        self.scale1 = fold_scale(self.scale1, self.self_attention.qkv)
        self.scale2 = fold_scale(self.scale2, self.cross_attention.kv)
        if (value := take_value_bias(self.cross_attention.kv)) is not None:
            self.scale2 = Shift(value)
        self.scale3 = fold_scale(self.scale3, self.ffn.fc2)


class DualMixer(nn.Module):
    """The two pathways of a dual block: semantics are updated from the pixels, then pixels consult them.

    With p the normalised pixels: s' = SemanticUpdate(s, p); out = Linear(Attention(query p, key and
    value LayerNorm(s'))). The cost is linear in the number of pixels: no pixel attends to another one.

    Shapes: normalised pixels (B, H, W, C) and semantics (B, M, C) to the pixels' update and the new
    semantics, of the same shapes. Source: Dual-ViT, section 3.2 and figure 2.

    Args:
        dim, num_heads: C, and attention heads.
        drop_path, layer_scale: Of the semantics' residuals.
        num_semantics: M where it is the same at every image size; where that is little, attention takes its products
            in the order that `CrossAttention` has for few tokens.

    Raises:
        ValueError: there are no semantics.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        num_semantics: int | None = None,
    ) -> None:
        super().__init__()
        few = absorbing_saves(dim, num_heads, num_semantics)
        self.semantic_update = SemanticUpdate(dim, num_heads, drop_path, layer_scale, few)
        self.semantic_norm = nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, num_heads, project=True, few="context" if few else "")

    def mix(self, pixels: Tensor, semantics: Tensor | None, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The pixels' update, with a residual added to it where one is given, and the new semantics."""
        queries = pixels.flatten(1, 2)
        semantics = self.semantic_update(given(semantics), queries)
        added = None if residual is None else residual.flatten(1, 2)
        return self.attention(queries, self.semantic_norm(semantics), added).view(pixels.shape), semantics

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.mix(pixels, context)


class FeedForward:
    """What dual and merge blocks do last to the pixels: norm, feed-forward network, layer scale, residual."""

    folded: bool = False  # of checkpoints that were pickled before it came
    if TYPE_CHECKING:  # TorchScript cannot read these
        norm2: nn.Module
        ffn: nn.Module
        scale2: nn.Module
        drop_path: nn.Module

    def feed_forward(self, pixels: Tensor) -> Tensor:
        """Pixels and their update; once folded nothing stands between the network and the residual, which it adds."""
        if self.folded:
            return self.ffn(self.norm2(pixels), pixels)
        return pixels + self.drop_path(self.scale2(self.ffn(self.norm2(pixels))))


class DualBlock(FeedForward, DualMixer):
    """The dual block: the two pathways, then the pixels' feed-forward network.

    Shapes: pixels (B, H, W, C), semantics (B, M, C), both unchanged. Source: Dual-ViT, section
    3.2 and figure 2.

    Example:
        >>> block = DualBlock(64, num_heads=2, hidden=512)
        >>> pixels, semantics = block(torch.randn(1, 56, 56, 64), torch.randn(1, 64, 64))
        >>> pixels.shape, semantics.shape
        (torch.Size([1, 56, 56, 64]), torch.Size([1, 64, 64]))
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden: int,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        num_semantics: int | None = None,
    ) -> None:
        super().__init__(dim, num_heads, drop_path, layer_scale, num_semantics)
        self.folded = False
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.ffn = ConvFFN(dim, hidden)
        self.scale2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.folded:
            pixels, semantics = self.mix(self.norm1(pixels), context, pixels)
        else:
            attended, semantics = self.mix(self.norm1(pixels), context)
            pixels = pixels + self.drop_path(self.scale1(attended))
        return self.feed_forward(pixels), semantics

    @torch.jit.ignore
    def fold(self) -> None:
        """Layer scales go into the Linears before them."""
        self.scale1 = fold_scale(self.scale1, self.attention.proj)
        self.scale2 = fold_scale(self.scale2, self.ffn.fc2)
        self.folded = True


class MergeBlock(FeedForward, nn.Module):
    """The merge block: pixels and semantics attend to each other as one sequence.

    Shapes: pixels (B, H, W, C), semantics (B, M, C), both unchanged. Source: Dual-ViT, section
    3.3. `semantic_ffn` may be set to None where nothing reads the semantics any more (the last
    block of a feature extractor).

    Args:
        dim, num_heads: C, and attention heads.
        hidden: Channels inside the pixels' feed-forward network.
        drop_path, layer_scale: Of both residuals.
        key_grid: None for the paper's form, in which every token attends to every other one; or (rows, columns) of
            cells whose means stand for the pixels as keys and values, which makes the cost linear in the number of
            pixels. On a map of just that size the two are the same.
    """

    key_grid: tuple[int, int] | None = None  # of checkpoints that were pickled before it came

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden: int,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        key_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.key_grid = key_grid
        self.folded = False
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.scale1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.ffn = ConvFFN(dim, hidden)
        self.semantic_ffn: nn.Module | None = TokenFFN(dim, 2 * dim)
        self.scale2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens = torch.cat([pixels.flatten(1, 2), given(context)], dim=1)
        split = pixels.shape[1] * pixels.shape[2]
        normed = self.norm1(tokens)
        keys = normed
        grid = self.key_grid  # a name of its own: TorchScript narrows an optional variable, never an attribute
        if grid is not None:
            cells = area_mean(normed[:, :split].reshape(pixels.shape), grid[0], grid[1])
            keys = torch.cat([cells.flatten(1, 2), normed[:, split:]], dim=1)
        if self.folded:
            tokens = self.attention(normed, keys, tokens)
        else:
            tokens = tokens + self.drop_path(self.scale1(self.attention(normed, keys)))
        pixels = self.feed_forward(tokens[:, :split].view(pixels.shape))
        semantics = tokens[:, split:]
        if self.semantic_ffn is not None:
            semantics = semantics + self.drop_path(self.scale2(self.semantic_ffn(self.norm2(semantics))))
        return pixels, semantics

    @torch.jit.ignore
    def fold(self) -> None:
        """Layer scales go into the Linears before them, the second one into both pathways'."""
        self.scale1 = fold_scale(self.scale1, self.attention.proj)
        beside = None if self.semantic_ffn is None else self.semantic_ffn.fc2
        self.scale2 = fold_scale(self.scale2, self.ffn.fc2, beside)
        self.folded = True


class ClassBlock(nn.Module):
    """The class block: the mean of all tokens becomes a class token, which attends to them once.

    Shapes: pixels (B, H, W, C) and the tokens beside them, (B, M, C), (B, h, w, C) or None, to the
    class token (B, 1, C). Source: the class attention of CaiT, as VOLO uses it.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.attention = CrossAttention(dim, num_heads, project=True)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.ffn = TokenFFN(dim, hidden)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = pixels.flatten(1, 2)
        if context is not None:
            tokens = torch.cat([tokens, context.flatten(1, -2)], dim=1)
        token = tokens.mean(1, keepdim=True)
        normed = self.norm1(torch.cat([token, tokens], dim=1))
        token = token + self.attention(normed[:, :1], normed)
        return token + self.ffn(self.norm2(token))
