"""The regions that the semantics carve out of an image: to each pixel the token that it consults most."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dualvit.errors import InputError
from dualvit.explain.attention import PIXELS, Attention


def regions(attentions: Sequence[Attention], stage: int, index: int = 0) -> Tensor:
    """Return which semantic token each pixel of a stage consults most: (h, w), numbers of tokens.

    Each head of each block of the stage is asked, and their shares are averaged.

    Args:
        attentions: As `attention_of` returns them.
        stage: Counted from 0.
        index: Which image of the batch.

    Raises:
        ValueError: there is no such stage, or its pixels consult no semantics.
    """
    consulted = shares(attentions, stage, index)
    return consulted.argmax(0)


def best_stage(attentions: Sequence[Attention]) -> int:
    """Return the stage whose regions are drawn if none is named: the first one, which has the finest map."""
    return min(one.stage for one in attentions)


def shares(attentions: Sequence[Attention], stage: int, index: int = 0) -> Tensor:
    """Return what share of its attention each pixel of a stage gives to each token: (M, h, w), 1 over the tokens."""
    found = [one for one in attentions if one.stage == stage and one.readers == PIXELS]
    if not found:
        stages = sorted({one.stage for one in attentions})
        raise InputError(f"stage {stage} has no pixels that consult semantics; there are {', '.join(map(str, stages))}")
    together = torch.stack([one.maps()[index].mean(0) for one in found]).mean(0)
    return together / together.sum(0, keepdim=True)
