"""Dual-ViT as rows of an Ultralytics model YAML: the backbone, its maps, and mixers inside C2f.

Importing this module registers the rows with Ultralytics. The classes that end up in checkpoints
live here, so that unpickling one, in a fresh process, a resumed run or a DDP worker, registers
them by itself.
"""

from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import C2f, HGStem
from ultralytics.nn.modules.conv import Conv

import dualvit.models.mixers  # noqa: F401  (registers them)
from dualvit.backbones.timm_model import as_maps, plan_backbone
from dualvit.errors import InputError
from dualvit.fast import accelerate
from dualvit.models.contract import BlockShape
from dualvit.models.dual_vit import DualViTConfig
from dualvit.models.registry import find_mixer
from dualvit.yolo.patches import ParsesLike, register

GRID = (4, 4)  # semantic tokens of a C2fMixer
STAGE = 1  # whose form of a mixer the row has: stride 8's


class BackboneBatchNorm(nn.BatchNorm2d):
    """BatchNorm that keeps its own eps and momentum.

    Ultralytics sets both on every exact `nn.BatchNorm2d` after the build, which would change what
    a pretrained backbone computes.
    """


class TimmBackbone(nn.Module):
    """Any timm model as the first row of a YAML: image to its maps at strides 8, 16 and 32.

    Args:
        spec: `name` (a timm model) and `in_chans`; further keys go to `timm.create_model`.

    Shapes: image (B, in_chans, H, W) to a list of three maps (B, C, H/8, W/8), (B, C', H/16, W/16)
    and (B, C'', H/32, W/32).

    Raises:
        ValueError: see `dualvit.backbones.timm_model.plan_backbone`; or a `drop_path_rate` that the model ignores.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        options = dict(spec)
        self.spec = dict(spec)
        name, in_chans = options.pop("name"), options.pop("in_chans", 3)
        plan = plan_backbone(name, options)
        self.channels_last = plan.channels_last
        self.model = accelerate(plan.build(in_chans))
        for module in self.model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = BackboneBatchNorm
        self.out_of_place = tuple(m for m in self.model.modules() if getattr(m, "inplace", None) is False)
        dropped = [getattr(module, "drop_prob", None) or 0.0 for module in self.model.modules()]
        if options.get("drop_path_rate") and not any(dropped):
            raise InputError(f"timm model {name!r} has no drop path; leave drop_path_rate out")

    def forward(self, image: Tensor) -> list[Tensor]:
        # Opening a checkpoint, and older versions also a build, set `inplace` on every module that has it.
        # An activation whose input is read again, as in MambaOut, would then give other numbers.
        if any(module.inplace for module in self.out_of_place):
            for module in self.out_of_place:
                module.inplace = False  # type: ignore[assignment]
        return as_maps(self.model(image), self.channels_last)

    def full_network(self) -> nn.Module:
        """The network that the maps are taken from, with its classifier, on the meta device."""
        options = dict(self.spec)
        name, in_chans = options.pop("name"), options.pop("in_chans", 3)
        return plan_backbone(name, options).full_network(in_chans)


class FeatureMap(nn.Module, metaclass=ParsesLike):
    """One map of a backbone row: `[0, 1, FeatureMap, [0]]` is P3 of row 0, 1 is P4, 2 is P5.

    (Its channels are filled in when the YAML is parsed; it parses like HGStem, whose second
    argument Ultralytics takes as the output channels, unscaled.)
    """

    parses_like = HGStem

    def __init__(self, _: int, level: int, channels: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[self.level]


class C2fMixer(nn.Module, metaclass=ParsesLike):
    """C2f with the blocks of any token mixer inside: a drop-in row for any backbone or neck.

    As in C2f, a 1x1 convolution splits the map in two, one half runs through `n` blocks, and all
    intermediate results are fused by a 1x1 convolution. What a mixer carries beside the pixels is
    read off the half that the blocks work on: semantic tokens for "dual", window means for
    "regional", nothing for the others.

    Args:
        c1, c2: Input and output channels.
        n: Blocks.
        mixer: A key of `dualvit.models.registry.MIXERS`.
        grid: Rows and columns of the semantic tokens; for "dual" alone.
        ratio: Hidden width of the pixels' feed-forward network over its channels.
        e: Channels inside over c2.

    Shapes: (B, c1, H, W) to (B, c2, H, W), any H and W.

    Raises:
        ValueError: an unknown mixer, with the nearest names.

    Example:
        >>> C2fMixer(64, 128, n=2, mixer="outlook")(torch.randn(1, 64, 20, 20)).shape
        torch.Size([1, 128, 20, 20])
    """

    parses_like = C2f

    def __init__(
        self, c1: int, c2: int, n: int = 1, mixer: str = "dual", grid: tuple[int, int] = GRID, ratio: int = 2,
        e: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c, 1, 1)
        entry, size = find_mixer(mixer), (grid[0], grid[1])
        config = DualViTConfig(0, (self.c,) * 4, (n,) * 4, semantic_grid=size, layer_scale=1.0)  # for short runs
        self.seed = entry.map_seed and entry.map_seed(self.c, config)
        heads = next(h for h in range(max(self.c // 32, 1), 0, -1) if self.c % h == 0)
        shapes = (BlockShape(STAGE, i, self.c, heads, ratio * self.c, 0.0, 1.0) for i in range(n))
        self.m = nn.ModuleList(entry.block(shape, config) for shape in shapes)
        if n and hasattr(self.m[-1], "prune_semantics"):  # nothing reads what the last block gives back
            self.m[-1].prune_semantics()  # type: ignore[operator]
        self.cv2 = Conv((2 + n) * self.c, c2, 1)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):  # as in dualvit_n, for short runs
            nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)
        accelerate(self)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.cv1(x).chunk(2, 1))
        pixels = maps[-1].permute(0, 2, 3, 1)
        semantics = None if self.seed is None else self.seed(pixels)
        for block in self.m:
            pixels, semantics = block(pixels, semantics)
            maps.append(pixels.permute(0, 3, 1, 2))
        out: Tensor = self.cv2(torch.cat(maps, 1))
        return out


class C2fDual(C2fMixer):
    """`C2fMixer` with dual blocks: each has the global picture at a cost linear in the number of pixels.

    Args and shapes: those of `C2fMixer`, without its mixer.

    Example:
        >>> C2fDual(64, 128, n=2)(torch.randn(1, 64, 20, 20)).shape
        torch.Size([1, 128, 20, 20])
    """

    def __init__(
        self, c1: int, c2: int, n: int = 1, grid: tuple[int, int] = GRID, ratio: int = 2, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, n, "dual", grid, ratio, e)


def transformer_parts(model: nn.Module) -> list[nn.Module]:
    """The parts that are no stock layers: backbones, and the seed and blocks of each C2fMixer."""
    backbones: list[nn.Module] = [m for m in model.modules() if isinstance(m, TimmBackbone)]
    inside = [part for m in model.modules() if isinstance(m, C2fMixer) for part in (m.seed, m.m)]
    return backbones + [part for part in inside if part is not None]


register(TimmBackbone, FeatureMap, C2fMixer, C2fDual)
