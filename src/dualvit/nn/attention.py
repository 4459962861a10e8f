"""Attention: one `attend` on PyTorch's fused kernel, and the three ways the network uses it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.nn.fuse import take_value_bias


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

    Shapes: tokens (B, Nq, C) and context (B, Nk, C) to (B, Nq, C).
    """

    def __init__(self, dim: int, num_heads: int, project: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim) if project else nn.Identity()

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        k, v = self.kv(context).chunk(2, dim=-1)
        return self.proj(attend(self.q(tokens), k, v, self.num_heads))

    @torch.jit.ignore
    def fold(self) -> None:
        """The biases of keys and values go, the latter through the output Linear where there is one."""
        if isinstance(self.proj, nn.Linear) and (value := take_value_bias(self.kv)) is not None:
            with torch.no_grad():
                self.proj.bias.add_(self.proj.weight @ value)
