"""Token labelling (Jiang et al., NeurIPS 2021, arXiv 2104.10858) with MixToken, for networks that have its head."""

import math
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.errors import InputError

Box = tuple[int, int, int, int]
UNIT = 8  # pixels of the stem's map on a side of a token of the last stage


def random_box(rows: int, columns: int, beta: float) -> Box:
    """A box of tokens whose area is about a share drawn from a beta distribution; it may be cut off at the border.

    Args:
        rows, columns: Tokens.
        beta: Of the distribution of the area that is left outside; 0 gives an empty box.

    Returns:
        Top, left, bottom and right, the last two exclusive.
    """
    if beta == 0:
        return 0, 0, 0, 0
    side = math.sqrt(1 - np.random.beta(beta, beta))
    height, width = int(rows * side), int(columns * side)
    row, column = np.random.randint(rows), np.random.randint(columns)
    top, left = max(row - height // 2, 0), max(column - width // 2, 0)
    return top, left, min(row + height // 2, rows), min(column + width // 2, columns)


def mix(maps: Tensor, box: Box, unit: int = 1) -> Tensor:
    """Take a box of each map from its partner, the batch in reverse; doing it twice undoes it.

    Args:
        maps: (B, rows, columns, C).
        box: In units.
        unit: Pixels on a side of a unit.
    """
    top, left, bottom, right = (unit * side for side in box)
    if bottom <= top or right <= left:
        return maps
    mixed = maps.clone()
    mixed[:, top:bottom, left:right] = maps.flip(0)[:, top:bottom, left:right]
    return mixed


def token_logits(network: Any, images: Tensor, beta: float) -> tuple[Tensor, Tensor, float]:
    """Class and token logits of a batch in training, the stem's map mixed by MixToken.

    Args:
        network: A Dual-ViT with its token-labelling head.
        images: (B, 3, H, W), sides multiples of 32.
        beta: Of MixToken; 0 mixes nothing.

    Returns:
        Class logits (B, classes), token logits (B, H/32, W/32, classes) that are un-mixed again, and the share
        of the area that is a picture's own.
    """
    rows, columns = images.shape[2] // 32, images.shape[3] // 32
    box = random_box(rows, columns, beta)
    # The stem's map is what semantics and stages both begin with.
    handle = network.stem.register_forward_hook(lambda stem, inputs, pixels: mix(pixels, box, UNIT))
    try:
        features = network.forward_features(images)
    finally:
        handle.remove()
    classes = network.head(network.forward_head(features, pre_logits=True))
    tokens = mix(network.aux_head(features[:, 1:]), box)
    return classes, tokens, 1 - (box[2] - box[0]) * (box[3] - box[1]) / (rows * columns)


def token_loss(
    outputs: tuple[Tensor, Tensor, float], target: Tensor, maps: Tensor, dense_weight: float, class_weight: float
) -> dict[str, Tensor]:
    """The two parts of the loss, weighted.

    Args:
        outputs: Of `token_logits`.
        target: (B, classes), of the pictures.
        maps: (B, classes, H/32, W/32), of the tokens.
        dense_weight, class_weight: Of the parts.
    """
    classes, tokens, own = outputs
    mixed = own * target + (1 - own) * target.flip(0)
    return {
        "class": class_weight * F.cross_entropy(classes, mixed),
        "token": dense_weight * F.cross_entropy(tokens.flatten(0, 2), maps.permute(0, 2, 3, 1).flatten(0, 2)),
    }


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels (B,) as targets (B, classes), a share of which goes to all classes alike.

    Example:
        >>> import torch
        >>> smoothed(torch.tensor([1]), 4, 0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def check_network(network: nn.Module, name: str) -> None:
    """Raise ValueError unless the network has the token-labelling head, and a stem to mix at."""
    if getattr(network, "aux_head", None) is None or not hasattr(network, "stem"):
        raise InputError(
            f"network {name} has no token-labelling head; take dualvit_n, _t, _s, _b or _l without "
            "network.options.token_label=false, or leave token_labels out"
        )
