"""Attention: one `attend` on PyTorch's fused kernel, and the three ways the network uses it."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.nn.fuse import take_value_bias
from dualvit.nn.onednn import PackedLinear, plus, serves, unwatched

SCORES = 1 << 28  # bytes of a head's scores that may be written out,
TOGETHER = 1 << 24  # and of several heads' at once
SAVING = 0.9  # of the multiply-adds; at the same number PyTorch's fused kernel is as fast


def _split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    return tokens.unflatten(2, [num_heads, tokens.shape[2] // num_heads]).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, bias: Tensor | None = None) -> Tensor:
    """Multi-head scaled dot-product attention on flat tokens.

    Args:
        q: Queries, (B, Nq, C).
        k: Keys, (B, Nk, C).
        v: Values, (B, Nk, C).
        num_heads: Number of heads; C must be a multiple of it.
        bias: What is added to the scores, or, as booleans, which keys take part; it broadcasts to
            (B, num_heads, Nq, Nk).

    Returns:
        The attended values, (B, Nq, C).

    Example:
        >>> import torch
        >>> q, kv = torch.randn(2, 64, 32), torch.randn(2, 100, 32)
        >>> attend(q, kv, kv, num_heads=4).shape
        torch.Size([2, 64, 32])
    """
    heads = [_split_heads(tokens, num_heads) for tokens in (q, k, v)]
    if torch.jit.is_scripting():
        pass  # and compile nothing of the other branch
    elif bias is None and _products_pay(q, k):
        return _attend_by_products(heads[0], heads[1], heads[2]).transpose(1, 2).flatten(2)
    out = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=bias)
    return out.transpose(1, 2).flatten(2)


def _products_pay(q: Tensor, k: Tensor) -> bool:
    """Whether attention should write its scores out: in eager inference in bfloat16 on a CPU.

    There PyTorch's fused kernel is no faster than in float32, while oneDNN's products are twice as fast.
    """
    return serves(q) and q.dtype == torch.bfloat16 and 2 * q.shape[1] * k.shape[1] <= SCORES


def _attend_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores, softmax and values of a few heads at a time; (B, heads, N, C / heads) each."""
    batch, heads, many, channels = q.shape
    q, k, v = (tokens.flatten(0, 1) for tokens in (q, k, v))
    step = max(1, TOGETHER // (2 * many * k.shape[1]))
    parts = []
    for first in range(0, batch * heads, step):
        some = slice(first, first + step)
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q[some], k[some].transpose(1, 2), beta=0, alpha=channels**-0.5)
        parts.append(torch.bmm(torch.softmax(scores, -1, out=scores), v[some]))
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.unflatten(0, [batch, heads])


def absorbing_saves(dim: int, num_heads: int, few: int | None) -> bool:
    """Whether attention between many tokens and `few` of them takes clearly fewer multiply-adds with Linears absorbed.

    For each of the many: 2 heads few C, against 2 C^2 of its two Linears and 2 few C of scores and values.

    Example:
        >>> absorbing_saves(32, num_heads=1, few=16), absorbing_saves(64, num_heads=2, few=64)
        (True, False)
    """
    return few is not None and num_heads * few < SAVING * (dim + few)


class SelfAttention(nn.Module):
    """Tokens attend to each other: one qkv Linear, no output projection (the semantic pathway).

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
    """Tokens consult a context: keys and values are one Linear of the context.

    Given the same tokens twice it is plain self-attention (the merge blocks); given one token it
    is class attention. `project` adds the output Linear.

    Where one side is known to be few, `few` names it, and the products are taken in another order: the Linears of the
    many are multiplied with the few first, and the many with the result, without queries, keys and values of their
    own. `absorbing_saves` says whether that takes fewer multiply-adds. Sums in another order, and nothing else changes.

    Shapes: tokens (B, Nq, C), context (B, Nk, C), and what is to be added to the result, (B, Nq, C) or None, to
    (B, Nq, C).

    Example:
        >>> import torch
        >>> pixels, semantics = torch.randn(2, 1600, 32), torch.randn(2, 16, 32)
        >>> CrossAttention(32, num_heads=1, project=True, few="context")(pixels, semantics).shape
        torch.Size([2, 1600, 32])
    """

    few: str = ""  # of checkpoints that were pickled before it came

    def __init__(self, dim: int, num_heads: int, project: bool, few: Literal["", "tokens", "context"] = "") -> None:
        super().__init__()
        if few == "context" and not project:
            raise ValueError("few='context' takes the values through the output Linear; give project=True")
        self.num_heads = num_heads
        self.few = few
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim) if project else nn.Identity()

    def forward(self, tokens: Tensor, context: Tensor, residual: Tensor | None = None) -> Tensor:
        if torch.jit.is_scripting():
            pass  # and compile nothing of the other branch
        elif self.few == "tokens" and unwatched((self.q, self.kv)):
            return plus(self._few_tokens(tokens, context), residual)
        elif self.few == "context" and unwatched((self.q, self.kv, self.proj)):
            return plus(self._few_keys(tokens, context), residual)
        k, v = self.kv(context).chunk(2, dim=-1)
        attended = attend(self.q(tokens), k, v, self.num_heads)
        if torch.jit.is_scripting():
            pass  # as above
        elif isinstance(self.proj, PackedLinear):
            return self.proj(attended, residual)
        return plus(self.proj(attended), residual)

    def _few_tokens(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Keys' weights go into the queries, values' are applied to what was attended; a key's bias has no effect."""
        dim, heads = self.q.in_features, self.num_heads
        keys, values = self.kv.weight.view(2, heads, dim // heads, dim).unbind(0)
        queries = _split_heads(self.q(tokens), heads) * (dim // heads) ** -0.5
        scores = (queries @ keys).flatten(1, 2) @ context.transpose(1, 2)
        attended = (scores.softmax(-1) @ context).unflatten(1, [heads, tokens.shape[1]])
        out = (attended @ values.transpose(1, 2)).transpose(1, 2).flatten(2)
        if self.kv.bias is not None:
            out = out + self.kv.bias[dim:]
        return self.proj(out)

    def _few_keys(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Queries' weights go into the keys, and the values through the output Linear, its bias with them."""
        dim, heads = self.q.in_features, self.num_heads
        project: Any = self.proj
        k, v = self.kv(context).chunk(2, dim=-1)
        k = _split_heads(k, heads) * (dim // heads) ** -0.5
        keys = (k @ self.q.weight.view(heads, dim // heads, dim)).flatten(1, 2)
        shift = (k @ self.q.bias.view(heads, dim // heads, 1)).flatten(1).unsqueeze(1)
        scores = torch.baddbmm(shift, tokens, keys.transpose(1, 2))
        shares = scores.unflatten(2, [heads, context.shape[1]]).softmax(-1).flatten(2)
        v = _split_heads(v, heads) @ project.weight.view(dim, heads, dim // heads).permute(1, 2, 0)
        return shares @ (v + project.bias / heads).flatten(1, 2)  # the shares of each head sum to 1

    @torch.jit.ignore
    def fold(self) -> None:
        """The biases of keys and values go, the latter through the output Linear where there is one."""
        if isinstance(self.proj, nn.Linear) and (value := take_value_bias(self.kv)) is not None:
            with torch.no_grad():
                self.proj.bias.add_(self.proj.weight @ value)
