"""Six token mixers behind one interface: what Dual-ViT's figure 1 compares, and what they all replace.

    update, context = mixer(pixels, context)

`pixels` (B, H, W, C) come in normalised, and go out as what the block adds to its own, unnormalised
ones. `context` is what a mixer carries beside them from block to block: the semantics (B, M, C) of
`dual`, the regional tokens (B, h, w, C) of `regional`. Its norms and residuals are the mixer's. The
others carry nothing, and hand on what they are given, None or not. Any map size will do: what is
padded to whole windows is masked out.
"""

from typing import Any

from torch import nn

from dualvit.names import unknown_name
from dualvit.nn.blocks import DualMixer
from dualvit.nn.mixers.full import FullMixer, ReductionMixer
from dualvit.nn.mixers.local import LocalMixer
from dualvit.nn.mixers.outlook import OutlookMixer
from dualvit.nn.mixers.regional import RegionalMixer

MIXERS: dict[str, type[nn.Module]] = {
    "full": FullMixer,
    "reduction": ReductionMixer,
    "local": LocalMixer,
    "regional": RegionalMixer,
    "outlook": OutlookMixer,
    "dual": DualMixer,
}


def check_mixer(name: str) -> str:
    """Return the name of a mixer; of anything else, raise ValueError with the nearest names."""
    if name not in MIXERS:
        raise ValueError(unknown_name("mixer", name, MIXERS) + f" (there are {', '.join(MIXERS)})")
    return name


def create_mixer(name: str, dim: int, num_heads: int, **options: Any) -> nn.Module:
    """Build a mixer by name.

    Args:
        name: A key of `MIXERS`.
        dim: C, a multiple of num_heads.
        num_heads: Attention heads.
        options: The mixer's own, such as `ratio` or `window`.

    Raises:
        ValueError: there is no mixer of that name.

    Example:
        >>> import torch
        >>> mixer = create_mixer("reduction", 64, num_heads=2, ratio=4)
        >>> update, context = mixer(torch.randn(1, 30, 41, 64), None)
        >>> update.shape, context
        (torch.Size([1, 30, 41, 64]), None)
    """
    return MIXERS[check_mixer(name)](dim, num_heads, **options)


__all__ = [
    "MIXERS",
    "DualMixer",
    "FullMixer",
    "LocalMixer",
    "OutlookMixer",
    "ReductionMixer",
    "RegionalMixer",
    "check_mixer",
    "create_mixer",
]
