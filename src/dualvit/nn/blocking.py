"""Wide activations cut into slices that stay in a CPU's cache.

The hidden map of a feed-forward network is up to eight times as wide as its pixels. Written out whole, it leaves the
cache, and beyond 32 MB the allocator hands its pages back to the system after each use, so that every layer waits for
fresh ones: at 56x56 pixels and batch 8 that halves the speed. Its channels do not meet before the second Linear,
so they can be computed a slice at a time. Sums are then taken in another order, and nothing else changes.
"""

import math

from torch import Tensor, nn

from dualvit.nn.onednn import depthwise_gelu, product

BUDGET = 7 << 19  # bytes of a slice, 3.5 MB
ROWS = 768  # pixels of a slice; a matrix product with fewer does not keep the arithmetic units busy,
NARROWEST = 32  # nor does one with fewer channels


def cut(batch: int, pixels: int, hidden: int, size: int = 4) -> tuple[int, int]:
    """Images and hidden channels of a slice: enough images for `ROWS`, and channels in equal parts within `BUDGET`.

    Args:
        batch, pixels, hidden: Images, pixels of each, and hidden channels.
        size: Bytes of a number.

    Example:
        >>> cut(batch=8, pixels=56 * 56, hidden=512), cut(batch=8, pixels=14 * 14, hidden=1280)
        ((1, 256), (4, 640))
    """
    images = min(batch, max(math.ceil(ROWS / pixels), BUDGET // (size * pixels * hidden)))
    images = math.ceil(batch / math.ceil(batch / images))  # no small rest
    parts = math.ceil(size * pixels * images * hidden / BUDGET)
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
    images, step = cut(batch, height * width, hidden, pixels.element_size())
    out = pixels.new_empty(batch, height, width, dim)
    for first in range(0, batch, images):
        group = slice(first, first + images)
        begun = None if residual is None else residual[group]
        for start in range(0, hidden, step):
            channels = slice(start, min(start + step, hidden))
            wide = product(fc1, pixels[group], outputs=channels).permute(0, 3, 1, 2)
            wide = depthwise_gelu(wide, conv.weight[channels], conv.bias[channels])  # type: ignore[index]
            begun = sums = product(fc2, wide.permute(0, 2, 3, 1), begun, inputs=channels, biased=start == 0)
        if images == batch:
            return sums
        out[group] = sums
    return out
