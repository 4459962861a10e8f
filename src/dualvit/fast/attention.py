"""Cross-attention in other orders of its products: on few tokens or keys, and with scores written out in bfloat16."""

from typing import Any

import torch
from torch import Tensor

from dualvit.fast.packed import add, serves, unwatched
from dualvit.models.dual_vit import CrossAttention, attend

SCORES = 1 << 28  # bytes of a head's scores that may be written out,
TOGETHER = 1 << 24  # and of several heads' at once
SAVING = 0.9  # of the multiply-adds; at the same number PyTorch's fused kernel is as fast


def few_pay(dim: int, num_heads: int, few: int) -> bool:
    """Return whether attention between many tokens and `few` takes clearly fewer multiply-adds with Linears absorbed.

    For each of the many: 2 heads few C, against 2 C^2 of its two Linears and 2 few C of scores and values.

    Example:
        >>> few_pay(32, num_heads=1, few=16), few_pay(64, num_heads=2, few=64)
        (True, False)
    """
    return num_heads * few < SAVING * (dim + few)


class FastCrossAttention(CrossAttention):
    """`CrossAttention` that adds a residual within its last product, and writes bfloat16 scores out on a CPU.

    There PyTorch's fused kernel is no faster than in float32, while oneDNN's products are twice as fast.

    Shapes: tokens (B, Nq, C), source (B, Nk, C), and a residual (B, Nq, C) or None, to (B, Nq, C).
    """

    def forward(self, tokens: Tensor, source: Tensor, residual: Tensor | None = None) -> Tensor:
        k, v = self.kv(source).chunk(2, dim=-1)
        q = self.q(tokens)
        written = serves(q) and q.dtype == torch.bfloat16 and q.numel() and 2 * q.shape[1] * k.shape[1] <= SCORES
        attended = attend_by_products(q, k, v, self.num_heads) if written else attend(q, k, v, self.num_heads)
        return add(residual, self.proj, attended)


class FewTokens(FastCrossAttention):
    """`CrossAttention` of few tokens to many: the Linears of the many are multiplied with the few first.

    Keys' weights go into the queries, values' are applied to what was attended; a key's bias has no effect.
    """

    def forward(self, tokens: Tensor, source: Tensor, residual: Tensor | None = None) -> Tensor:
        if not unwatched((self.q, self.kv)):
            return super().forward(tokens, source, residual)
        dim, heads = self.q.in_features, self.num_heads
        values = self.kv.weight[dim:].view(heads, dim // heads, dim)
        attended = by_head(self.shares(tokens, source) @ source, 1, heads)
        out = (attended @ values.transpose(1, 2)).transpose(1, 2).flatten(2)
        if self.kv.bias is not None:
            out = out + self.kv.bias[dim:]
        return add(residual, self.proj, out)

    def shares(self, tokens: Tensor, source: Tensor) -> Tensor:
        """Return what share of its attention each token gives to each of the many: (B, heads Nq, Nk), head by head."""
        dim, heads = self.q.in_features, self.num_heads
        keys = self.kv.weight[:dim].view(heads, dim // heads, dim)
        queries = split_heads(self.q(tokens), heads) * (dim // heads) ** -0.5
        return ((queries @ keys).flatten(1, 2) @ source.transpose(1, 2)).softmax(-1)


class FewKeys(FastCrossAttention):
    """`CrossAttention` of many tokens to few: queries' weights go into the keys, values through the output Linear."""

    def forward(self, tokens: Tensor, source: Tensor, residual: Tensor | None = None) -> Tensor:
        if not unwatched((self.q, self.kv, self.proj)):
            return super().forward(tokens, source, residual)
        dim, heads = self.q.in_features, self.num_heads
        proj: Any = self.proj
        k, v = self.kv(source).chunk(2, dim=-1)
        shares = self.shares(tokens, k)
        v = split_heads(v, heads) @ proj.weight.view(dim, heads, dim // heads).permute(1, 2, 0)
        update = shares @ (v + proj.bias / heads).flatten(1, 2)  # the shares of each head sum to 1
        return update if residual is None else residual + update

    def shares(self, tokens: Tensor, keys: Tensor) -> Tensor:
        """Return what share of its attention each of many tokens gives to each key: (B, Nq, heads Nk), head by head."""
        dim, heads = self.q.in_features, self.num_heads
        k = split_heads(keys, heads) * (dim // heads) ** -0.5
        keys = (k @ self.q.weight.view(heads, dim // heads, dim)).flatten(1, 2)
        shift = (k @ self.q.bias.view(heads, dim // heads, 1)).flatten(1).unsqueeze(1)
        if torch.jit.is_tracing():  # not every format knows a sum within a product
            scores = tokens @ keys.transpose(1, 2) + shift
        else:
            scores = torch.baddbmm(shift, tokens, keys.transpose(1, 2))
        return by_head(scores, 2, heads).softmax(-1).flatten(2)


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """Return (B, N, C) as (B, heads, N, C / heads)."""
    return by_head(tokens, 2, num_heads).transpose(1, 2)


def by_head(values: Tensor, dim: int, num_heads: int) -> Tensor:
    """Return `values.unflatten(dim, (num_heads, -1))`; in a traced graph by an operator that every format knows."""
    if not torch.jit.is_tracing():
        return values.unflatten(dim, (num_heads, -1))
    sizes = list(values.shape)
    return values.reshape([*sizes[:dim], num_heads, sizes[dim] // num_heads, *sizes[dim + 1 :]])


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Return what `attend` does, by scores, softmax and values of a few heads at a time."""
    batch, many, dim = q.shape
    q, k, v = (split_heads(tokens, num_heads).flatten(0, 1) for tokens in (q, k, v))
    step = max(1, TOGETHER // (2 * many * k.shape[1]))
    parts = []
    for first in range(0, batch * num_heads, step):
        some, scale = slice(first, first + step), (dim // num_heads) ** -0.5
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q[some], k[some].transpose(1, 2), beta=0, alpha=scale)
        parts.append(torch.bmm(torch.softmax(scores, -1, out=scores), v[some]))
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.unflatten(0, (batch, num_heads)).transpose(1, 2).flatten(2)
