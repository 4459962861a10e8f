"""The forms that every converter of a traced network knows: sizes are numbers, and convolutions are layers.

NCNN, CoreML, Paddle and TensorFlow get a network by a trace. Each of them follows sizes that are computed in the graph
only so far, and x2paddle takes the weights of a convolution with a bias from a layer alone.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dualvit.fast.exact import ExactSeed
from dualvit.fast.sliced import FoldedConvFFN

_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain_forms(dynamic: bool = False) -> Iterator[None]:
    """Within it, `plain` changes networks, and a trace has plain operators and one size, in constant numbers.

    Args:
        dynamic: Sizes stay in the graph, as far as the converter follows them.
    """
    token = _plain.set(True)
    try:
        with PlainTrace(dynamic):
            yield
    finally:
        _plain.reset(token)


class PlainTrace(TorchFunctionMode):
    """Within it, a trace holds no operator that a converter takes wrongly; nothing else changes.

    A shape that is read is of numbers, and leaves nothing in the graph. Attention is written out: Paddle's operator of
    that name takes other axes. So is a Linear without a bias, for which x2paddle adds one. The factors of a product
    have as many axes each, since Paddle's oneDNN takes no others.

    Args:
        dynamic: Shapes stay in the graph.

    Example:
        >>> def halves(image):
        ...     return image.reshape(image.shape[0], 2, -1)
        >>> with PlainTrace():
        ...     graph = torch.jit.trace(halves, torch.rand(1, 8)).graph
        >>> "aten::size" in str(graph)
        False
    """

    def __init__(self, dynamic: bool = False) -> None:
        super().__init__()
        self.dynamic = dynamic

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.jit.is_tracing():
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return attention(*args, **kwargs)
        if func is F.linear:
            return linear(*args, **kwargs)
        if func in PRODUCTS:
            return torch.matmul(*of_one_rank(*args))
        out = func(*args, **kwargs)
        if self.dynamic or func not in SIZES:
            return out
        return torch.Size(map(number, out)) if isinstance(out, tuple) else number(out)


PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
SIZES = (Tensor.shape.__get__, Tensor.size)  # type: ignore[attr-defined]


def number(size: Any) -> int:
    """Return a size as a number, which is a constant to a trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # says just that
        return int(size)


def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Return what `F.scaled_dot_product_attention` does, by products; a mask is of numbers that are added."""
    scores = (q * number(q.shape[-1]) ** -0.5) @ k.transpose(-2, -1)
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v


def of_one_rank(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of a product with as many axes each, unless the second is a matrix."""
    if right.ndim > 2:
        while left.ndim < right.ndim:
            left = left.unsqueeze(0)
        while right.ndim < left.ndim:
            right = right.unsqueeze(0)
    return left, right


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what `F.linear` does, without a bias by a product alone."""
    return tokens @ weight.transpose(0, 1) if bias is None else F.linear(tokens, weight, bias)


class LayeredConvFFN(FoldedConvFFN):
    """`FoldedConvFFN` whose products are layers of convolutions. Shapes: (B, H, W, C) and a residual, to their sum."""

    def forward(self, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        update = self.whole(pixels)
        return update if residual is None else residual + update

    def whole(self, pixels: Tensor) -> Tensor:
        """Return the network's output."""
        return self.convolve(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def convolve(self, maps: Tensor) -> Tensor:
        """Return the network's output, (B, C, H, W) to (B, C, H, W)."""
        out: Tensor = self.fc2(F.silu(self.conv(self.fc1(maps))))
        return out


class KnownSeed(ExactSeed):
    """`ExactSeed` whose queries are the same for all images, and are kept as they are after norm and product.

    Paddle cannot fold a norm of constants, and some formats have no bicubic resize.
    """

    known: Tensor  # (1, M, C)

    def spread(self, rows: int, columns: int) -> Tensor:
        return self.known


@torch.no_grad()
def plain(model: nn.Module) -> nn.Module:
    """Put these forms into a fused network, in place, within `plain_forms`; elsewhere it stays. Returns the network."""
    for module in list(model.modules()) if _plain.get() else ():
        changed: Any = module
        if type(module) is FoldedConvFFN:
            changed.fc1, changed.fc2 = as_conv(module.fc1), as_conv(module.fc2)
            changed.__class__ = LayeredConvFFN
        elif type(module) is ExactSeed and module.grid is not None:
            known = module.query_proj(module.query_norm(module.spread(*module.grid)))
            changed.register_buffer("known", known.clone())
            changed.query_norm = changed.query_proj = nn.Identity()
            changed.__class__ = KnownSeed
    return model


def as_conv(linear: nn.Linear) -> nn.Conv2d:
    """Return the 1x1 convolution that a Linear is, with the Linear's own numbers."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight = nn.Parameter(linear.weight.detach()[..., None, None], linear.weight.requires_grad)
    conv.bias = linear.bias
    return conv
