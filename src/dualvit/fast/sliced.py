"""Wide activations cut into slices that stay in a CPU's cache.

The hidden map of a feed-forward network is up to eight times as wide as its pixels. Written out in full, it leaves the
cache, and beyond 32 MB the allocator hands its pages back to the system after each use, so that every layer waits for
fresh ones: at 56x56 pixels and batch 8 that halves the speed. Its channels do not meet before the second Linear,
so they can be computed a slice at a time. Sums are then taken in another order, and nothing else changes.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from dualvit.fast.packed import depthwise, product, serves, unwatched
from dualvit.models.dual_vit import ConvFFN

BUDGET = 7 << 19  # bytes of a slice, 3.5 MB
ROWS = 768  # pixels of a slice; a matrix product with fewer does not keep the arithmetic units busy,
NARROWEST = 32  # nor does one with fewer channels


def cut(batch: int, pixels: int, hidden: int, size: int = 4) -> tuple[int, int]:
    """Return images and hidden channels of a slice: enough images for `ROWS`, channels in equal parts in `BUDGET`.

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


class SlicedConvFFN(ConvFFN):
    """`ConvFFN`, a few images and a slice of the hidden channels at a time, in eager inference on a CPU.

    Shapes: (B, H, W, C), and a residual of the same shape or None, to their sum.
    """

    activation = "gelu"  # as oneDNN calls it

    def forward(self, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        if not (serves(pixels) and pixels.numel() and unwatched((self.fc1, self.conv, self.fc2))):
            update = self.whole(pixels)
            return update if residual is None else residual + update
        batch, height, width, _ = pixels.shape
        images, step = cut(batch, height * width, self.fc1.out_features, pixels.element_size())
        out = pixels.new_empty(batch, height, width, self.fc2.out_features)
        for first in range(0, batch, images):
            group = slice(first, first + images)
            sums = self._slices(pixels[group], None if residual is None else residual[group], step)
            if images == batch:
                return sums
            out[group] = sums
        return out

    def whole(self, pixels: Tensor) -> Tensor:
        """Return the network's output, computed in one piece by its layers."""
        return super().forward(pixels)

    def _slices(self, pixels: Tensor, sums: Tensor | None, step: int) -> Tensor:
        """Return the sum of the residual and all slices of `step` hidden channels."""
        hidden = self.fc1.out_features
        for start in range(0, hidden, step):
            channels = slice(start, min(start + step, hidden))
            wide = product(self.fc1, pixels, outputs=channels).permute(0, 3, 1, 2)  # (B, step, H, W)
            wide = depthwise(wide, self.conv.weight[channels], self.conv.bias[channels], self.activation)  # type: ignore[index]
            sums = product(self.fc2, wide.permute(0, 2, 3, 1), sums, inputs=channels, biased=start == 0)
        return sums  # type: ignore[return-value]


class FoldedConvFFN(SlicedConvFFN):
    """`NormedConvFFN` once its batch norms are folded.

    Shapes: (B, H, W, C), and a residual of the same shape or None, to their sum.
    """

    activation = "swish"

    def whole(self, pixels: Tensor) -> Tensor:
        """Return the network's output, computed in one piece by its layers."""
        hidden = self.conv(self.fc1(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, hidden)
        return self.fc2(F.silu(hidden))

    def convolve(self, maps: Tensor) -> Tensor:
        """Return the network's output by three convolutions, (B, C, H, W) to (B, C, H, W)."""
        wide = F.conv2d(maps, self.fc1.weight[..., None, None], self.fc1.bias)  # (B, hidden, H, W)
        return F.conv2d(F.silu(self.conv(wide)), self.fc2.weight[..., None, None], self.fc2.bias)
