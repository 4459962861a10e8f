"""One pyramid, any token mixer: Dual-ViT's stem, widths, depths, feed-forward networks and heads.

`create_model("pyramid_n", mixer="outlook")` differs from `dualvit_n` in how tokens are mixed and in
nothing else; with mixer="dual" it is Dual-ViT, name by name and bit by bit. Where a rival's own paper
treats its stages differently, that is followed:

    full       each pixel attends to every pixel, in all stages
    reduction  PVT: keys and values of a strided map, cells of 8, 4, 2, 1 pixels in stages 1 to 4
    local      Twins: 7x7 windows and reduction (8, 4, 2, 1) in turn, counted over all blocks
    regional   RegionViT: 7x7 windows, each with a regional token, which starts as 28x28 image pixels, is
               halved between stages by the pixels' own convolution and norm, and shares their
               feed-forward networks; the class block reads it with the pixels, as it reads semantics
    outlook    VOLO: 3x3 outlook with centres two pixels apart at strides 4 and 8, full attention after
    dual       Dual-ViT: dual blocks, then merge blocks, with semantics from the stem on
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from dualvit.models.contract import entrypoint, pretrained_cfg
from dualvit.models.dual_vit import CONFIGS as DUAL_VIT
from dualvit.models.dual_vit import HEAD_DIM, DualViT, DualViTConfig, block_plans
from dualvit.nn.layers import ConvFFN, MapDownsample
from dualvit.nn.mixers import check_mixer, create_mixer
from dualvit.nn.mixers.block import MixerBlock, RegionalBlock
from dualvit.nn.mixers.regional import RegionalSeed
from dualvit.nn.stage import Stage

RATIOS = (8, 4, 2, 1)  # of spatial reduction, in PVT's and Twins' four stages
OUTLOOK_STAGES = 2  # VOLO's full attention starts at stride 16


@dataclass(frozen=True)
class PyramidConfig(DualViTConfig):
    """The shape of a pyramid: `DualViTConfig`, and the mixer.

    Attributes:
        mixer: A key of `dualvit.nn.mixers.MIXERS`. `dual_stages` and `semantic_grid` are for "dual".
    """

    mixer: str = "dual"


CONFIGS = {name.replace("dualvit", "pyramid"): PyramidConfig(**asdict(config)) for name, config in DUAL_VIT.items()}


class Pyramid(DualViT):
    """Dual-ViT with any mixer in the place of its own.

    Args, shapes and errors are those of `DualViT`; `config.mixer` names the mixer.

    Raises:
        ValueError: an unknown mixer, a size that is no multiple of 32 or 112, or a bad option.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("pyramid_n", mixer="local", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def __init__(self, config: PyramidConfig = CONFIGS["pyramid_s"], **kwargs: Any) -> None:
        check_mixer(config.mixer)
        super().__init__(config, **kwargs)
        self.seed_reads_image = config.mixer == "regional"

    @torch.jit.ignore
    def build_seed(self, config: DualViTConfig) -> nn.Module | None:
        """What starts the mixer's context: semantics, regional tokens or nothing."""
        mixer = getattr(config, "mixer", "dual")
        if mixer == "dual":
            return super().build_seed(config)
        return RegionalSeed(self.in_chans, config.dims[0]) if mixer == "regional" else None

    @torch.jit.ignore
    def build_stages(self, config: DualViTConfig) -> list[Stage]:
        """The four stages, of the mixer's blocks."""
        mixer = getattr(config, "mixer", "dual")
        if mixer == "dual":
            return super().build_stages(config)
        stages, count = [], 0
        for index, (dim, plans) in enumerate(block_plans(config)):
            blocks = []
            for hidden, rate in plans:
                blocks.append(rival_block(mixer, index, count, dim, hidden, rate, config.layer_scale))
                count += 1
            last = index == len(config.dims) - 1
            downsample = MapDownsample(config.dims[index - 1], dim) if index else None
            stages.append(Stage(downsample, blocks, None if last else dim, norm_context=mixer == "regional"))
        return stages

    def forward_seed(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two values that flow through the stages: pixels (B, H/4, W/4, C), and the mixer's context."""
        pixels = self.stem(image)
        if self.seed is None:
            return pixels, None
        return pixels, self.seed(image if self.seed_reads_image else pixels)

    @torch.jit.ignore
    def prune_context(self) -> None:
        """Drop the class block, and what updates the context after its last reader."""
        super().prune_context()
        last_block: Any = self.stages[-1].blocks[-1]  # type: ignore[index]
        if isinstance(last_block, RegionalBlock):
            last_block.prune_context()


def rival_block(
    mixer: str, stage: int, count: int, dim: int, hidden: int, drop_path: float, layer_scale: float
) -> nn.Module:
    """One block of a mixer other than "dual": number `count` of the network, in stage `stage`, both from 0."""
    heads, ffn = dim // HEAD_DIM, ConvFFN(dim, hidden)
    if mixer == "regional":
        return RegionalBlock(dim, heads, ffn, drop_path, layer_scale)
    options = {
        "reduction": {"ratio": RATIOS[stage]},
        "local": {"ratio": RATIOS[stage], "block": count},
    }
    name = "full" if mixer == "outlook" and stage >= OUTLOOK_STAGES else mixer
    return MixerBlock(dim, create_mixer(name, dim, heads, **options.get(name, {})), ffn, drop_path, layer_scale)


default_cfgs = generate_default_cfgs(
    {name: pretrained_cfg(first_conv="stem.conv.0", classifier=("head", "aux_head")) for name in CONFIGS}
)


def _entrypoint(variant: str, doc: str) -> Callable[..., nn.Module]:
    return entrypoint(__name__, Pyramid, variant, CONFIGS[variant], doc)


__all__ = ["CONFIGS", "Pyramid", "PyramidConfig"]

pyramid_n = _entrypoint("pyramid_n", "The pyramid of dualvit_n with any mixer (ours).")
pyramid_t = _entrypoint("pyramid_t", "The pyramid of dualvit_t with any mixer (ours).")
pyramid_s = _entrypoint("pyramid_s", "The pyramid of dualvit_s with any mixer (ours).")
pyramid_b = _entrypoint("pyramid_b", "The pyramid of dualvit_b with any mixer (ours).")
pyramid_l = _entrypoint("pyramid_l", "The pyramid of dualvit_l with any mixer (ours).")
