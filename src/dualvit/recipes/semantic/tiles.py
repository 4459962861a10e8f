"""Logits of whole images from a network that sees squares: tiles that overlap, averaged."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Blending = Literal["mean", "gaussian"]
SIGMA = 1 / 8  # of the tile's side


def slide(
    network: Callable[[Tensor], Tensor], image: Tensor, side: int, stride: int, blending: Blending = "mean",
    batch: int = 8,
) -> Tensor:  # fmt: skip
    """Logits (classes, H, W) of an image (3, H, W) of any size; an image smaller than a tile is padded with 0.

    Args:
        network: (B, 3, side, side) to logits (B, classes, side, side).
        image: As the network takes it.
        side: Of the tiles, in pixels.
        stride: Between tiles; the last ones end at the border.
        blending: What a tile's logits weigh: all the same, or a Gaussian around its centre.
        batch: Tiles that the network sees at once.

    Example:
        >>> slide(lambda images: images.double(), torch.arange(12.0).view(1, 3, 4), side=2, stride=1)[0, 1].tolist()
        [4.0, 5.0, 6.0, 7.0]
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, max(side - width, 0), 0, max(side - height, 0)))
    places = [(top, left) for top in starts(height, side, stride) for left in starts(width, side, stride)]
    weight = tile_weight(side, blending).to(image)
    total = weights = None
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        logits = network(torch.stack([padded[:, y : y + side, x : x + side] for y, x in some]))
        if total is None or weights is None:
            total = logits.new_zeros(logits.shape[1], *padded.shape[-2:], dtype=torch.float32)
            weights = total.new_zeros(padded.shape[-2:])
        for (y, x), tile in zip(some, logits, strict=True):
            total[:, y : y + side, x : x + side] += tile * weight
            weights[y : y + side, x : x + side] += weight
    assert total is not None and weights is not None
    return (total / weights)[:, :height, :width]


def starts(length: int, side: int, stride: int) -> list[int]:
    """Where tiles begin along one side of an image.

    Example:
        >>> starts(100, 40, 25), starts(30, 40, 25)
        ([0, 25, 50, 60], [0])
    """
    last = max(length - side, 0)
    return [*range(0, last, stride), last]


def tile_weight(side: int, blending: Blending) -> Tensor:
    """What each pixel of a tile weighs, (side, side), above 0 everywhere."""
    if blending == "mean":
        return torch.ones(side, side)
    distance = (torch.arange(side) - (side - 1) / 2) / (SIGMA * side)
    line = torch.exp(-(distance**2) / 2)
    return torch.outer(line, line).clamp(min=1e-4)


def enlarged_argmax(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The best class of each pixel, int64 of `size`, of logits (classes, H, W) that are enlarged to it bilinearly.

    One class is enlarged at a time: all of a large picture's would fill the memory.

    Example:
        >>> enlarged_argmax(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), (1, 4)).tolist()
        [[0, 0, 1, 1]]
    """
    if logits.shape[1:] == tuple(size):
        return logits.argmax(0)
    best = logits.new_full(tuple(size), -torch.inf)
    classes = torch.zeros(tuple(size), dtype=torch.long, device=logits.device)
    for index, one in enumerate(logits):
        large = F.interpolate(one[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
        better = large > best
        best[better], classes[better] = large[better], index
    return classes
