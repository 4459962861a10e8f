"""Attention: one `attend` on PyTorch's fused kernel, and the three ways the network uses it."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.nn.blocking import unwatched
from dualvit.nn.fuse import take_value_bias

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
    out = F.scaled_dot_product_attention(
        _split_heads(q, num_heads), _split_heads(k, num_heads), _split_heads(v, num_heads), attn_mask=bias
    )
    return out.transpose(1, 2).flatten(2)


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

    Shapes: tokens (B, Nq, C) and context (B, Nk, C) to (B, Nq, C).

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

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            pass  # and compile nothing of the other branch
        elif self.few == "tokens" and unwatched((self.q, self.kv), (nn.Linear,)):
            return self._few_tokens(tokens, context)
        elif self.few == "context" and unwatched((self.q, self.kv, self.proj), (nn.Linear,)):
            return self._few_keys(tokens, context)
        k, v = self.kv(context).chunk(2, dim=-1)
        return self.proj(attend(self.q(tokens), k, v, self.num_heads))

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
