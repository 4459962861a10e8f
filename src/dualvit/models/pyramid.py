"""One pyramid, any token mixer: Dual-ViT's stem, widths, depths, feed-forward networks and heads.

`create_model("pyramid_s", mixer="outlook")` differs from `dualvit_s` in how tokens are mixed and in nothing else; with
mixer="dual" it is Dual-ViT, name by name and bit by bit. The sizes N and T have the widths and depths of `dualvit_n`
and `_t`, and the layer norms of the larger sizes. A rival's stages are treated as its own paper does:

    full       each pixel attends to every pixel, in all stages
    reduction  PVT: keys and values of a strided map, cells of 8, 4, 2, 1 pixels in stages 1 to 4
    local      Twins: 7x7 windows and reduction (8, 4, 2, 1) in turn, counted over all blocks
    regional   RegionViT: 7x7 windows, each with a regional token, which starts as 28x28 image pixels, is
               halved between stages by the pixels' own convolution and norm, and shares their
               feed-forward networks; the class block reads it with the pixels, as it reads semantics
    outlook    VOLO: 3x3 outlook with centres two pixels apart at strides 4 and 8, full attention after
    dual       Dual-ViT: dual blocks, then merge blocks, with semantics from the stem on
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from timm.models import generate_default_cfgs
from torch import Tensor, nn

import dualvit.models.mixers  # noqa: F401  (registers them)
from dualvit.errors import InputError
from dualvit.models import dual_vit, dual_vit_small
from dualvit.models.contract import BlockShape, entrypoints, pretrained_cfg
from dualvit.models.dual_vit import DualViT, DualViTConfig
from dualvit.models.registry import MIXERS, Mixer, find_mixer


@dataclass(frozen=True)
class PyramidConfig(DualViTConfig):
    """The shape of a pyramid: `DualViTConfig`, and the mixer.

    Attributes:
        mixer: A key of `dualvit.models.registry.MIXERS`. `dual_stages`, `semantic_grid` and `key_grid` are for "dual".
    """

    mixer: str = "dual"


_MERGING = {name: replace(config, dual_stages=3) for name, config in dual_vit_small.CONFIGS.items()}
_DUAL = _MERGING | dual_vit.CONFIGS
CONFIGS = {name.replace("dualvit", "pyramid"): PyramidConfig(**asdict(config)) for name, config in _DUAL.items()}


class Pyramid(DualViT):
    """Dual-ViT with any mixer in the place of its own.

    Args, shapes and errors are those of `DualViT`; `config.mixer` names the mixer.

    Raises:
        ValueError: an unknown mixer, an option that the mixer does not read, a side below 32, or a bad option.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("pyramid_n", mixer="local", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def __init__(self, config: PyramidConfig = CONFIGS["pyramid_s"], **kwargs: Any) -> None:
        self.mixer_name = config.mixer
        super().__init__(config, **kwargs)

    @property
    def mixer(self) -> Mixer:
        """The mixer's entry in the registry."""
        return find_mixer(self.mixer_name)

    @classmethod
    def check_options(cls, config: Any, options: Iterable[str]) -> None:
        """Raise ValueError if an option is given that the mixer does not read."""
        own = find_mixer(config.mixer).options
        for option in options:
            if readers := [name for name, entry in MIXERS.items() if option in entry.options and option not in own]:
                raise InputError(
                    f"{option} has no effect with mixer={config.mixer!r}; leave it out, or give mixer={readers[0]!r}"
                )

    def build_seed(self, config: DualViTConfig) -> nn.Module | None:
        """Return the module that makes the mixer's first semantics, or None."""
        return self.mixer.seed and self.mixer.seed(self.in_chans, config)

    def build_downsample(self, dim: int, out_dim: int) -> nn.Module:
        """Return the mixer's module between two stages."""
        return self.mixer.downsample(dim, out_dim)

    def build_block(self, shape: BlockShape, config: DualViTConfig) -> nn.Module:
        """Return one of the mixer's blocks."""
        return self.mixer.block(shape, config)

    def begin(self, image: Tensor) -> tuple[Tensor, Any]:
        """Return the two values that flow through the stages: pixels (B, H/4, W/4, C), and semantics or None."""
        pixels = self.stem(image)
        if self.seed is None:
            return pixels, None
        return pixels, self.seed(image if self.mixer.seed_reads_image else pixels)

    def finish(self, pixels: Tensor, semantics: Tensor | None) -> Tensor:
        """Return features as `DualViT.finish` does, of pixels and the tokens (B, M, C), (B, h, w, C) or none beside."""
        tokens = pixels[:, :0, 0] if semantics is None else semantics.flatten(1, -2)  # (B, M, C)
        return super().finish(pixels, tokens)

    def prune_semantics(self) -> None:
        """Drop the class block, and each module that updates the semantics after their last reader."""
        super().prune_semantics()
        last_block: Any = self.stages[-1].blocks[-1]  # type: ignore[index]
        if hasattr(last_block, "prune_semantics"):
            last_block.prune_semantics()


default_cfgs = generate_default_cfgs(
    {name: pretrained_cfg(first_conv="stem.conv.0", classifier=("head", "aux_head")) for name in CONFIGS}
)
pyramid_n, pyramid_t, pyramid_s, pyramid_b, pyramid_l = entrypoints(__name__, Pyramid, CONFIGS)
