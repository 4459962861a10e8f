"""Where a detector's boxes come from by one forward pass: reads of both pathways, followed back to the first map.

A share of 1 starts on the cells that made a box. In each block, from the last to the first, a part of what lies on a
pixel moves to the semantic tokens that it consults, and a part of what lies on a token moves to the pixels that it
reads; the rest stays. That is attention rollout (Abnar and Zuidema, 2020, arXiv 2005.00928) across two pathways. No
gradient is needed, so that it can stand in an exported graph, and the shares of a box sum to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dualvit.explain.attention import queries_and_keys
from dualvit.fast.attention import FewKeys, FewTokens
from dualvit.fast.packed import unwatched
from dualvit.models.dual_vit import CrossAttention, DualBlock, DualViT, MergeBlock, SemanticSeed, area_weights

KEPT = 0.8  # of what lies on a pixel or a token, by each block; the rest is what it reads


class Read(Protocol):
    """What the tokens and pixels of one block read."""

    stage: int

    def back(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Move shares from behind the block to before it: (B, boxes, H W) and (B, boxes, M), unchanged shapes."""


@dataclass
class DualRead:
    """Reads of a dual block.

    Attributes:
        stage: Counted from 0.
        heads: Of both attentions.
        read: (B, heads M, H W), from which pixels each token reads.
        consulted: (B, H W, heads M), which tokens each pixel consults; comes behind `read` in the forward pass.
    """

    stage: int
    heads: int
    read: Tensor
    consulted: Tensor | None = None

    def back(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels consult the new tokens, which have read the pixels before."""
        consulted = pixels @ self.consulted  # (B, boxes, heads M)
        tokens = tokens + (1 - KEPT) * consulted.unflatten(2, (self.heads, -1)).mean(2)  # (B, boxes, M)
        read = tokens.repeat(1, 1, self.heads) @ self.read  # (B, boxes, H W)
        return KEPT * pixels + (1 - KEPT) / self.heads * read, KEPT * tokens


@dataclass
class MergeRead:
    """Reads of a merge block, of the mean query of a box's pixels, and of that of its tokens.

    Attributes:
        stage: Counted from 0.
        queries: (B, heads, H W + M, d).
        keys: (B, heads, Nk, d).
        size: Rows and columns of the map.
        grid: Rows and columns of the means that stand for the pixels as keys; None for the pixels themselves.
    """

    stage: int
    queries: Tensor
    keys: Tensor
    size: tuple[Any, Any]
    grid: tuple[int, int] | None

    def back(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Both read both, as one sequence."""
        count = pixels.shape[2]
        from_pixels, from_tokens = (
            self._reads(shares, queries)
            for shares, queries in ((pixels, self.queries[:, :, :count]), (tokens, self.queries[:, :, count:]))
        )
        read = (1 - KEPT) * (from_pixels + from_tokens)  # (B, boxes, Nk)
        cells = read.shape[2] - tokens.shape[2]
        on_pixels, on_tokens = read[:, :, :cells], read[:, :, cells:]
        if self.grid is not None:
            on_pixels = spread(on_pixels.unflatten(2, self.grid), self.size).flatten(2)
        return KEPT * pixels + on_pixels, KEPT * tokens + on_tokens

    def _reads(self, shares: Tensor, queries: Tensor) -> Tensor:
        total = shares.sum(2, keepdim=True)  # (B, boxes, 1)
        mean = (shares / total.clamp(min=1e-12)).unsqueeze(1) @ queries  # (B, heads, boxes, d)
        scores = mean @ self.keys.transpose(2, 3) * queries.shape[3] ** -0.5
        return total * scores.softmax(3).mean(1)  # (B, boxes, Nk)


def spread(cells: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Spread shares of cells (B, boxes, rows, columns) over the pixels behind them: (B, boxes, H, W)."""
    rows, columns = (area_weights(side, count, cells) for side, count in zip(size, cells.shape[2:], strict=True))
    return rows.transpose(0, 1) @ cells @ columns


def watch(network: DualViT, reads: list[Read]) -> list[Any]:
    """Hook a network so that each forward pass fills `reads` anew; returns the hooks' handles."""
    handles: list[Any] = [network.stem.register_forward_pre_hook(lambda *_: reads.clear())]
    for stage, blocks in enumerate(getattr(one, "blocks", ()) for one in network.stages):
        for block in blocks:
            if isinstance(block, DualBlock):
                handles += _watch_dual(block, stage, reads)
            elif isinstance(block, MergeBlock):
                handles += _watch_merge(block, stage, reads)
    return handles


def _watch_dual(block: DualBlock, stage: int, reads: list[Read]) -> list[Any]:
    def read(module: Any, values: tuple[Tensor, ...]) -> None:
        reads.append(DualRead(stage, module.num_heads, shares_by_token(module, *values[:2])))

    def consulted(module: Any, values: tuple[Tensor, ...]) -> None:
        reads[-1].consulted = shares_by_pixel(module, *values[:2])  # type: ignore[attr-defined]

    update = block.semantic_update.cross_attention
    return [update.register_forward_pre_hook(read), block.attention.register_forward_pre_hook(consulted)]


def _watch_merge(block: MergeBlock, stage: int, reads: list[Read]) -> list[Any]:
    size: list[Any] = []

    def begin(module: Any, values: tuple[Tensor, ...]) -> None:
        size[:] = values[0].shape[1:3]

    def both(module: Any, values: tuple[Tensor, ...]) -> None:
        reads.append(MergeRead(stage, *queries_and_keys(module, *values[:2]), (size[0], size[1]), block.key_grid))

    return [block.register_forward_pre_hook(begin), block.attention.register_forward_pre_hook(both)]


def shares_by_token(attention: CrossAttention, tokens: Tensor, source: Tensor) -> Tensor:
    """Return from which of the many each of few tokens reads: (B, heads M, N), head by head, 1 over the many."""
    if isinstance(attention, FewTokens) and unwatched((attention.q, attention.kv)):  # the product of the forward pass
        return attention.shares(tokens, source)
    queries, keys = queries_and_keys(attention, tokens, source)
    return (queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5).softmax(3).flatten(1, 2)


def shares_by_pixel(attention: CrossAttention, tokens: Tensor, source: Tensor) -> Tensor:
    """Return which of few tokens each of the many consults: (B, N, heads M), head by head, 1 over the few."""
    if isinstance(attention, FewKeys) and unwatched((attention.q, attention.kv, attention.proj)):
        return attention.shares(tokens, attention.kv(source).chunk(2, dim=-1)[0])
    queries, keys = queries_and_keys(attention, tokens, source)
    return (queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5).softmax(3).transpose(1, 2).flatten(2)


def rollout(reads: Sequence[Read], starts: dict[int, Tensor], seed: SemanticSeed) -> Tensor:
    """Follow shares back to the first map.

    Args:
        reads: Of a forward pass, in the order of the blocks.
        starts: For a stage, what lies on its map at first: (B, boxes, h, w).
        seed: That read the first semantics off the first map.

    Returns:
        (B, boxes, H/4, W/4), which sums to the sum of the starts over the pixels.
    """
    first = next(iter(starts.values()))
    pixels, tokens = first.new_zeros(()), first.new_zeros(())
    for stage in range(max(read.stage for read in reads), -1, -1):
        if pixels.ndim:  # from a stage to the one before
            pixels = F.interpolate(pixels, scale_factor=2.0, mode="nearest") / 4
        if stage in starts:
            pixels = pixels + starts[stage]  # (B, boxes, h, w)
        size, flat = pixels.shape[2:], pixels.flatten(2)
        for read in reversed([one for one in reads if one.stage == stage]):
            flat, tokens = read.back(flat, tokens)
        pixels = flat.unflatten(2, (size[0], size[1]))
    size = pixels.shape[2:]
    rows, columns = seed.grid or (size[0] // 7, size[1] // 7)
    return pixels + spread(tokens.unflatten(2, (rows, columns)), (size[0], size[1]))


def covering(boxes: Tensor, size: tuple[Any, Any], stride: int) -> Tensor:
    """Return shares of 1 that lie evenly on boxes: (B, boxes, 4), x1 y1 x2 y2 in pixels, to (B, boxes, h, w) cells.

    A box that lies outside has none.
    """
    rows, columns = size
    down = _covered(boxes[..., 1:2], boxes[..., 3:4], rows, stride)  # (B, boxes, h)
    across = _covered(boxes[..., 0:1], boxes[..., 2:3], columns, stride)  # (B, boxes, w)
    return down.unsqueeze(3) * across.unsqueeze(2)


def _covered(start: Tensor, end: Tensor, count: Any, stride: int) -> Tensor:
    cells = torch.arange(count, device=start.device).to(start) * stride  # (count,)
    covered = (torch.minimum(cells + stride, end) - torch.maximum(cells, start)).clamp(min=0)  # (B, boxes, count)
    return covered / covered.sum(2, keepdim=True).clamp(min=1e-6)
