"""Who reads where in one picture, head by head: the attention of each block as pictures and as numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from dualvit.explain.attention import SEMANTICS, Attention
from dualvit.explain.regions import regions
from dualvit.explain.show import OPACITY, sheet
from dualvit.explain.subject import View
from dualvit.pictures.heat import heat

TOKENS = 6  # that are drawn, a column each
WIDTH = 220  # pixels of a column


def largest_regions(attentions: Sequence[Attention], stage: int, count: int = TOKENS) -> list[int]:
    """Return the tokens that the most pixels of a stage consult most, the first has the largest region."""
    pixels = torch.bincount(regions(attentions, stage).flatten())
    return pixels.argsort(descending=True, stable=True)[: min(count, int((pixels > 0).sum()))].tolist()


def reads_picture(picture: Image.Image, view: View, attentions: Sequence[Attention], stage: int) -> Image.Image:
    """Return the attention of a stage as one picture: a column per token, two rows per block and head.

    The first row of a head shows where each token reads from. The second one shows which pixels consult it. The tokens
    are those with the largest regions. Each map is drawn from its least to its largest value, which the words above it
    give: 1 is the mean of the map.
    """
    small = picture.resize((WIDTH, max(1, round(picture.height * WIDTH / picture.width))), Image.Resampling.LANCZOS)
    ground, seen = pil_to_tensor(small), replace(view, size=small.size)
    tokens, parts = largest_regions(attentions, stage), []
    for one in (one for one in attentions if one.stage == stage):
        verb = "reads" if one.readers == SEMANTICS else "is read"
        for head, maps in enumerate(one.maps()[0]):
            for token in tokens:
                values = maps[token] / maps[token].mean()
                least, most = float(values.min()), float(values.max())
                words = f"b{one.block} h{head}: {token} {verb}, {_short(least)} to {_short(most)}"
                parts.append((words, heat(ground, seen.on_picture(values - least), OPACITY)))
    return sheet(parts, len(tokens), WIDTH)


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def reads_arrays(attentions: Sequence[Attention]) -> dict[str, NDArray[Any]]:
    """Return the attention of all stages by name: (heads, tokens, h, w) each, halves of 16 bit.

    `reads` is from where each token reads, `read` which pixels consult it.
    """
    return {name_of(one): _halved(one.maps()[0]) for one in attentions}


def name_of(one: Attention) -> str:
    """Return the name of an attention in a file of arrays."""
    return f"stage{one.stage}-block{one.block}-{'reads' if one.readers == SEMANTICS else 'read'}"


def _halved(maps: Tensor) -> NDArray[Any]:
    return maps.numpy().astype(np.float16)
