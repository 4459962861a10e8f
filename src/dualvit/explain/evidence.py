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

from dualvit.errors import InputError
from dualvit.explain.attention import network_of, queries_and_keys
from dualvit.explain.subject import Found, Subject, View
from dualvit.fast.attention import FewKeys, FewTokens
from dualvit.fast.packed import unwatched
from dualvit.models.dual_vit import CrossAttention, DualBlock, DualViT, MergeBlock, SemanticSeed, area_weights

KEPT = 0.8  # of what lies on a pixel or a token, by each block; the rest is what it reads


@dataclass
class Shares:
    """What lies on pixels and tokens of one map; factors are kept apart, so that large maps are added and not scaled.

    Attributes:
        pixels: (B, boxes, H W), times `on_pixels`.
        tokens: (B, boxes, M), times `on_tokens`; None as long as there is nothing.
    """

    pixels: Tensor
    tokens: Tensor | None = None
    on_pixels: float = 1.0
    on_tokens: float = 1.0

    def add_tokens(self, share: float, read: Tensor, heads: int) -> None:
        """Add a share of what pixels consulted, (B, boxes, heads M), the mean of the heads."""
        each = torch.eye(read.shape[2] // heads, device=read.device, dtype=read.dtype).repeat(heads, 1)  # (heads M, M)
        if self.tokens is None:
            self.tokens, self.on_tokens = read @ (each / heads), share
        else:
            self.tokens = self.tokens + read @ (each * (share / heads / self.on_tokens))


class Read(Protocol):
    """What the tokens and pixels of one block read."""

    stage: int

    def back(self, shares: Shares) -> None:
        """Move shares from behind the block to before it."""


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
    consulted: Any = None

    def back(self, shares: Shares) -> None:
        """Pixels consult the new tokens, which have read the pixels before."""
        shares.add_tokens((1 - KEPT) * shares.on_pixels, shares.pixels @ self.consulted, self.heads)
        tokens: Any = shares.tokens
        shares.on_pixels *= KEPT
        part = (1 - KEPT) * shares.on_tokens / self.heads / shares.on_pixels
        each = torch.eye(tokens.shape[2], device=tokens.device, dtype=tokens.dtype).repeat(1, self.heads) * part
        shares.pixels = shares.pixels + tokens @ each @ self.read  # (B, boxes, H W)
        shares.on_tokens *= KEPT


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

    def back(self, shares: Shares) -> None:
        """Both read both, as one sequence."""
        count = shares.pixels.shape[2]
        read = shares.on_pixels * self._reads(shares.pixels, self.queries[:, :, :count])  # (B, boxes, Nk)
        if shares.tokens is not None:
            read = read + shares.on_tokens * self._reads(shares.tokens, self.queries[:, :, count:])
        read = (1 - KEPT) * read
        cells = read.shape[2] - (self.queries.shape[2] - count)
        pixels, tokens = read[:, :, :cells], read[:, :, cells:]
        if self.grid is not None:
            pixels = spread(pixels.unflatten(2, self.grid), self.size).flatten(2)
        shares.on_pixels, shares.on_tokens = KEPT * shares.on_pixels, KEPT * shares.on_tokens
        shares.pixels = shares.pixels + pixels / shares.on_pixels
        if shares.tokens is None:
            shares.tokens, shares.on_tokens = tokens, 1.0
        else:
            shares.tokens = shares.tokens + tokens / shares.on_tokens

    def _reads(self, shares: Tensor, queries: Tensor) -> Tensor:
        total = shares.sum(2, keepdim=True)  # (B, boxes, 1)
        mean = (shares / total.clamp(min=1e-12)).unsqueeze(1) @ queries  # (B, heads, boxes, d)
        scores = mean @ self.keys.transpose(2, 3) * queries.shape[3] ** -0.5
        return total * scores.softmax(3).mean(1)  # (B, boxes, Nk)


def spread(cells: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Spread shares of cells (B, boxes, rows, columns) over the pixels behind them: (B, boxes, H, W)."""
    rows, columns = (area_weights(side, count, cells) for side, count in zip(size, cells.shape[2:], strict=True))
    return rows.transpose(0, 1) @ cells @ columns


@torch.no_grad()
def evidence(subject: Subject, view: View, found: Found) -> Tensor:
    """Return where a found box comes from: (H/8, W/8) of the images, shares that sum to 1, by one forward pass.

    Raises:
        ValueError: the network has no semantics, the object no box, or a side of the images is no multiple of 32.
    """
    size = (view.images.shape[2], view.images.shape[3])
    if found.box is None:
        raise InputError(f"evidence is of boxes, and {found.name} has none; take another method")
    if size[0] % 32 or size[1] % 32:
        raise InputError(f"evidence is for sides that are multiples of 32, and the images have {size[1]}x{size[0]}")
    network: Any = network_of(subject.network)
    reads: list[Any] = []
    handles = watch(network, reads)
    try:
        subject.network(view.images)
    finally:
        for handle in handles:
            handle.remove()
    return rollout(reads, view.images.new_tensor([[found.box]]), size, network.seed)[0, 0]


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


def rollout(reads: Sequence[Read], boxes: Tensor, size: tuple[Any, Any], seed: SemanticSeed) -> Tensor:
    """Follow boxes back to the first map.

    A third of each box lies evenly on each of the maps at strides 8, 16 and 32, where a detector takes them.

    Args:
        reads: Of a forward pass, in the order of the blocks.
        boxes: (B, boxes, 4), x1 y1 x2 y2 in pixels.
        size: Height and width of the image, multiples of 32.
        seed: That read the first semantics off the first map.

    Returns:
        (B, boxes, H/8, W/8), which sums to 1; a box outside of the image has 0 everywhere.
    """
    starts = on_maps(boxes, size)
    shares = Shares(starts[-1].flatten(2))
    for stage in (3, 2, 1, 0):
        if stage < 3:
            wide = size[1] // (8 << stage)
            maps = shares.pixels.unflatten(2, (-1, wide))
            maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")  # (B, boxes, 2 h, 2 w)
            shares.on_pixels /= 4
            if stage:
                maps = maps + starts[stage - 1] * (1 / shares.on_pixels)
            shares.pixels = maps.flatten(2)
        for read in reversed([one for one in reads if one.stage == stage]):
            read.back(shares)
    maps = F.avg_pool2d(shares.pixels.unflatten(2, (-1, size[1] // 4)), 2)  # (B, boxes, H/8, W/8)
    if shares.tokens is not None:
        rows, columns = seed.grid or (size[0] // 28, size[1] // 28)
        first = (shares.tokens * (shares.on_tokens / 4 / shares.on_pixels)).unflatten(2, (rows, columns))
        maps = maps + spread(first, (size[0] // 8, size[1] // 8))
    return maps * (4 / 3 * shares.on_pixels)


def on_maps(boxes: Tensor, size: tuple[Any, Any]) -> list[Tensor]:
    """Return shares of 1 that lie evenly on boxes (B, boxes, 4), at strides 8, 16 and 32: (B, boxes, h, w) each."""
    down = _covered(boxes[..., 1::2], size[0] // 8)
    across = _covered(boxes[..., ::2], size[1] // 8)
    maps = []
    for level in range(3):
        if level:
            down, across = (one.unflatten(2, (-1, 2)).sum(3) for one in (down, across))
        maps.append(down.unsqueeze(3) * across.unsqueeze(2))
    return maps


def _covered(ends: Tensor, count: Any) -> Tensor:
    """Return the share of lines (B, boxes, 2), from one end to the other in pixels, on each of the cells of 8."""
    cells = torch.arange(count, device=ends.device).to(ends)
    passed = (ends.unsqueeze(3) / 8 - cells).clamp(0, 1)  # (B, boxes, 2, count), of each cell before the end
    covered = passed[:, :, 1] - passed[:, :, 0]
    return covered / covered.sum(2, keepdim=True).clamp(min=1e-6)
