"""The mixers by name: an entry makes a rival's mixer, its block and its seed, so that nobody asks which one it is.

A new mixer is a file in `mixers/`, imported by `mixers/__init__.py`, that ends in `register_mixer(NAME, Mixer(...))`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import DualViTConfig
from dualvit.names import unknown_name


class MapDownsample(nn.Module):
    """Halve the pixel map, and, by the same weights, the map of regional tokens if there is one.

    Shapes: pixels (B, H, W, C) to (B, H/2, W/2, C'), regional tokens (B, h, w, C) to (B, h/2, w/2, C').
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def halve(self, pixels: Tensor) -> Tensor:
        """Return one map at half its size, (B, H, W, C) to (B, H/2, W/2, C')."""
        return self.norm(self.proj(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def forward(self, pixels: Tensor, semantics: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.halve(pixels), None if semantics is None else self.halve(semantics)


@dataclass(frozen=True)
class Mixer:
    """What a pyramid asks of a way to mix tokens.

    Attributes:
        mixer: From dim, num_heads and options to a module: update, semantics = mixer(pixels, semantics). `pixels`
            (B, H, W, C) come in normalised; the update is to be added to the block's own, unnormalised ones.
            `semantics` travel beside them: tokens (B, M, C), regional tokens (B, h, w, C), or None, handed on.
        block: From a block's shape and the config to the block: pixels, semantics = block(pixels, semantics).
        seed: From the image's channels and the config to the module that makes the first semantics; None for none.
        seed_reads_image: Whether the seed reads the image (B, in_chans, H, W) instead of the stem's map.
        map_seed: From C and the config to the module that makes semantics of any map (B, H, W, C), for blocks in the
            midst of another network; None for none.
        downsample: From C and C' to the module between two stages.
        options: Fields of `DualViTConfig` that this mixer alone reads; for any other mixer they are an error.
    """

    mixer: Callable[..., nn.Module]
    block: Callable[[BlockShape, DualViTConfig], nn.Module]
    seed: Callable[[int, DualViTConfig], nn.Module] | None = None
    seed_reads_image: bool = False
    map_seed: Callable[[int, DualViTConfig], nn.Module] | None = None
    downsample: Callable[[int, int], nn.Module] = MapDownsample
    options: tuple[str, ...] = ()


MIXERS: dict[str, Mixer] = {}


def register_mixer(name: str, entry: Mixer) -> None:
    """Add a mixer under a name, which `create_model("pyramid_n", mixer=NAME)` then takes."""
    MIXERS[name] = entry


def find_mixer(name: str) -> Mixer:
    """Return a mixer's entry; raise ValueError with the nearest names if there is none."""
    if name not in MIXERS:
        raise InputError(unknown_name("mixer", name, MIXERS) + f" (there are {', '.join(MIXERS)})")
    return MIXERS[name]


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
        >>> import torch, dualvit.models.mixers
        >>> mixer = create_mixer("reduction", 64, num_heads=2, ratio=4)
        >>> update, semantics = mixer(torch.randn(1, 30, 41, 64), None)
        >>> update.shape, semantics
        (torch.Size([1, 30, 41, 64]), None)
    """
    return find_mixer(name).mixer(dim, num_heads, **options)
