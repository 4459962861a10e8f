"""Wide activations cut into slices that stay in a CPU's cache.

The hidden map of a feed-forward network is up to eight times as wide as its pixels. Written out whole, it leaves the
cache, and beyond 32 MB the allocator hands its pages back to the system after each use, so that every layer waits for
fresh ones: at 56x56 pixels and batch 8 that halves the speed. Its channels do not meet before the second Linear,
so they can be computed a slice at a time. Sums are then taken in another order, and nothing else changes.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

BUDGET = 7 << 19  # bytes of a slice, 3.5 MB
FEWEST = 4 << 20  # bytes of a hidden map that is worth it
ROWS = 768  # pixels of a slice; a matrix product with fewer does not keep the arithmetic units busy,
NARROWEST = 32  # nor does one with fewer channels


def unwatched(layers: Iterable[nn.Module], kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether weights may be used past their layers: each is of one of these kinds, itself, and no hook watches it."""
    return all(type(layer) in kinds and not layer._forward_hooks and not layer._forward_pre_hooks for layer in layers)


def slices_pay(layers: tuple[nn.Module, ...], pixels: Tensor, hidden: int) -> bool:
    """Whether a feed-forward network with `hidden` channels should be cut into slices on this map.

    Only where nothing needs the whole hidden map: in eager inference on a CPU, in float32, by plain layers that no
    hook watches.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_in_torch_dispatch_mode():
        return False  # a dispatch mode counts or records what layers do, and knows those alone
    if type(pixels) is not Tensor or pixels.device.type != "cpu" or pixels.dtype != torch.float32:
        return False
    if pixels.shape[:-1].numel() * hidden * pixels.element_size() <= FEWEST:
        return False
    return unwatched(layers, (nn.Linear, nn.Conv2d))


def cut(batch: int, pixels: int, hidden: int) -> tuple[int, int]:
    """Images and hidden channels of a slice: enough images for `ROWS`, and channels in equal parts within `BUDGET`.

    Example:
        >>> cut(batch=8, pixels=56 * 56, hidden=512), cut(batch=8, pixels=14 * 14, hidden=1280)
        ((1, 256), (4, 640))
    """
    images = min(batch, max(math.ceil(ROWS / pixels), BUDGET // (4 * pixels * hidden)))
    parts = math.ceil(4 * pixels * images * hidden / BUDGET)
    return images, NARROWEST * math.ceil(hidden / parts / NARROWEST)


def conv_ffn_by_slices(
    pixels: Tensor, fc1: nn.Linear, conv: nn.Conv2d, fc2: nn.Linear, residual: Tensor | None = None
) -> Tensor:
    """fc2(gelu(conv(fc1(pixels)))) + residual, a few images and a slice of the hidden channels at a time.

    Args:
        pixels: (B, H, W, C).
        fc1: C to the hidden channels, with a bias.
        conv: Depthwise over the hidden channels, with a bias.
        fc2: The hidden channels to C', with a bias.
        residual: (B, H, W, C'), or None.

    Returns:
        (B, H, W, C').
    """
    batch, height, width, _ = pixels.shape
    hidden, dim = fc1.out_features, fc2.out_features
    images, step = cut(batch, height * width, hidden)
    out = pixels.new_empty(batch, height, width, dim)
    if residual is not None:
        torch.add(residual, fc2.bias, out=out)  # what the products are then added to
    for first in range(0, batch, images):
        part, sums = pixels[first : first + images], out[first : first + images].view(-1, dim)
        for start in range(0, hidden, step):
            channels = slice(start, start + step)
            wide = F.linear(part, fc1.weight[channels], fc1.bias[channels]).permute(0, 3, 1, 2)
            wide = depthwise_gelu(wide, conv.weight[channels], conv.bias[channels])  # type: ignore[index]
            flat = wide.permute(0, 2, 3, 1).reshape(-1, wide.shape[1])
            begun = start > 0 or residual is not None
            torch.addmm(sums if begun else fc2.bias, flat, fc2.weight[:, channels].t(), out=sums)
    return out


def depthwise_gelu(wide: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu of a depthwise 3x3 convolution, in one pass over the map where oneDNN is there: a quarter faster.

    Args:
        wide: (B, C, H, W), channels last.
        weight: (C, 1, 3, 3).
        bias: (C,).
    """
    channels = wide.shape[1]
    if not torch.backends.mkldnn.is_available():
        return F.gelu(F.conv2d(wide, weight, bias, padding=1, groups=channels))
    ones = [1, 1]  # padding, stride and dilation
    return torch.ops.mkldnn._convolution_pointwise(wide, weight, bias, ones, ones, ones, channels, "gelu", [], "none")
