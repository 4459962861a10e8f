"""What each block does with its attention: how sharp it is, how far it reaches, and how much of it is let through."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.explain.attention import PIXELS, SEMANTICS, Attention, network_of

CELLS = 24  # rows and columns of the map, at most, between which distances are taken


@dataclass(frozen=True)
class Profile:
    """One block.

    Attributes:
        stage, block: Where it stands, counted from 0.
        reading: Entropy of what a semantic token reads of the pixels, over that of reading all alike: 0 to 1.
        consulting: The same of what a pixel consults of the semantics.
        reach: Mean distance between a pixel and what it reads through the semantics, over the map's diagonal.
        uniform: What `reach` would be if all were read alike.
        scales: Mean size of the layer scales of attention and feed-forward network; None without layer scales.
    """

    stage: int
    block: int
    reading: float
    consulting: float
    reach: float
    uniform: float
    scales: tuple[float, float] | None


def profiles(model: nn.Module, attentions: Sequence[Attention]) -> list[Profile]:
    """Return the profile of each block, in their order, as means over images, heads and tokens.

    Args:
        model: The model that was looked at.
        attentions: As `attention_of` returns them.

    Example:
        >>> import dualvit
        >>> from dualvit.explain.attention import attention_of
        >>> model = dualvit.create_model("dualvit_n").eval()
        >>> rows = profiles(model, attention_of(model, torch.rand(1, 3, 64, 64)))
        >>> len(rows), 0 < rows[0].reading <= 1
        (6, True)
    """
    network, found = network_of(model), {(one.stage, one.block, one.readers): one for one in attentions}
    rows = []
    for stage, block in dict.fromkeys((one.stage, one.block) for one in attentions):
        reads, consults = found[stage, block, SEMANTICS], found[stage, block, PIXELS]
        module = network.stages[stage].blocks[block]  # type: ignore[index]
        scales = [getattr(module, name, None) for name in ("scale1", "scale2")]
        sizes = [float(one.gamma.detach().abs().mean()) for one in scales if isinstance(one, LayerScale)]
        reach, uniform = _reach(reads.maps().mean(1), consults.maps().mean(1))
        both = (sizes[0], sizes[1]) if len(sizes) == 2 else None
        rows.append(Profile(stage, block, _entropy(reads), _entropy(consults), reach, uniform, both))
    return rows


def _entropy(attention: Attention) -> float:
    """Mean entropy of the shares of the sources, over its largest possible value; of one source it is 0."""
    if attention.count < 2:
        return 0.0
    shares = attention.weights()
    shares = shares / shares.sum(-1, keepdim=True)
    entropy = torch.special.entr(shares).sum(-1).mean()
    return float(entropy / torch.tensor(float(attention.count)).log())


def _reach(reads: Tensor, consults: Tensor) -> tuple[float, float]:
    """Mean distance from a pixel to what it reads by way of the semantics, of (B, M, h, w) each; and to any pixel."""
    rows, columns = (min(side, CELLS) for side in consults.shape[2:])
    reads, consults = (F.adaptive_avg_pool2d(one, (rows, columns)).flatten(2) for one in (reads, consults))
    reads, consults = reads / reads.sum(-1, keepdim=True), consults / consults.sum(1, keepdim=True)
    places = torch.cartesian_prod(torch.arange(rows) / rows, torch.arange(columns) / columns)
    places = places.to(reads) * torch.tensor([consults.new_tensor(1.0), columns / rows]).to(reads)
    distances = torch.cdist(places, places) / (1 + (columns / rows) ** 2) ** 0.5  # (N, N), of the diagonal
    to_token = torch.einsum("bmq,pq->bmp", reads, distances)  # from each pixel to what each token reads
    return float((to_token * consults).sum(1).mean()), float(distances.mean())
