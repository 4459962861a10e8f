"""Cutting a map into square windows, and back; what is padded is known by a mask.

(B, H, W, C)  --split-->  (B * rows * columns, window * window, C)  --merge-->  (B, H, W, C)
"""

import torch
import torch.fx
import torch.nn.functional as F
from timm.models import register_notrace_function
from torch import Tensor

from dualvit.models.contract import crop, known


@torch.fx.wrap
@register_notrace_function
def pad_to_multiple(pixels: Tensor, size: int) -> Tensor:
    """Add zeros below and to the right until (B, H, W, C) is whole cells of size x size."""
    bottom, right = -pixels.shape[1] % size, -pixels.shape[2] % size
    if known(bottom, right) and bottom == right == 0:
        return pixels
    return F.pad(pixels, (0, 0, 0, right, 0, bottom))


@torch.fx.wrap
@register_notrace_function
def split_windows(pixels: Tensor, window: int) -> tuple[Tensor, Tensor | None]:
    """Cut the map into windows, row by row, padded below and to the right where they do not fit.

    Returns:
        The windows' tokens, (B * rows * columns, window * window, C), and which of them are pixels,
        a boolean (B * rows * columns, window * window), or None if all are.
    """
    batch, height, width = pixels.shape[0], pixels.shape[1], pixels.shape[2]
    bottom, right = -height % window, -width % window
    rows, columns = (height + bottom) // window, (width + right) // window
    valid: Tensor | None = None
    if not (known(bottom, right) and bottom == right == 0):
        pixels = pad_to_multiple(pixels, window)
        inside_y = torch.arange(rows * window, device=pixels.device) < height
        inside_x = torch.arange(columns * window, device=pixels.device) < width
        inside = inside_y.unsqueeze(1) & inside_x
        inside = inside.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, window * window)
        valid = inside.repeat(batch, 1)
    cut = pixels.view(batch, rows, window, columns, window, pixels.shape[3]).transpose(2, 3)
    return cut.reshape(batch * rows * columns, window * window, pixels.shape[3]), valid


@torch.fx.wrap
@register_notrace_function
def merge_windows(tokens: Tensor, window: int, like: Tensor) -> Tensor:
    """Put the windows' tokens back into a map as large as `like`, (B, H, W, C); padded ones are dropped."""
    batch, height, width = like.shape[:3]
    rows, columns = (height + window - 1) // window, (width + window - 1) // window
    cut = tokens.reshape(batch, rows, columns, window, window, tokens.shape[2]).transpose(2, 3)
    pixels = cut.reshape(batch, rows * window, columns * window, tokens.shape[2])  # no -1: a batch may be empty
    return crop(pixels, height, width)
