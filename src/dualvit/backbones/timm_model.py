"""Any timm model as a detector's backbone: its maps at strides such as 8, 16 and 32, of images of any size.

timm builds a feature extractor out of every family, but families differ in how its maps lie in
memory, in how a fixed image size is lifted, and in the names of its parameters. A `BackbonePlan` holds what
a build needs of the first two; `dualvit.weights.match.full_names` leads from an extractor's parameters to the
full network's, in which checkpoints, layer groups and weight-decay exceptions are written.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from dualvit.errors import InputError, line_of
from dualvit.meta import on_meta
from dualvit.models import create_model
from dualvit.weights.match import full_names

STRIDES = (8, 16, 32)
SIZES = ((256, 256), (96, 160))  # what a backbone is tried on: a detector's images are multiples of 32, not square
# How families with a fixed image size are told to take any. Swin shifts the windows of its last
# stage only where the image is larger than the size it was built for, or where it is told to.
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {},
    {"strict_img_size": False, "always_partition": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)
FITTING = "resnet18, convnext_tiny or swin_tiny_patch4_window7_224 give them"
RESERVED = {
    "name": "it is the backbone itself",
    "in_chans": "it follows from the data",
    "features_only": "a backbone always is",
    "out_indices": "they follow from the strides that the detector needs",
    "pretrained": "nothing is downloaded; fetch the file and give weights=FILE",
    "checkpoint_path": "give weights=FILE",
}


@dataclass(frozen=True)
class BackbonePlan:
    """How a timm model is built as a backbone.

    Attributes:
        name: The timm model.
        indices: Which of its maps have the strides asked for.
        channels: Of these maps.
        channels_last: Its maps come out as (B, H, W, C).
        options: For `timm.create_model`: those asked for, and what lifts a fixed image size.
    """

    name: str
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    channels_last: bool
    options: dict[str, Any] = field(hash=False)

    def build(self, in_chans: int = 3) -> nn.Module:
        """Build the feature extractor: images (B, in_chans, H, W) to one map per stride."""
        return create_model(self.name, features_only=True, out_indices=self.indices, in_chans=in_chans, **self.options)

    def full_network(self, in_chans: int = 3) -> nn.Module:
        """Build the network with its classifier, on the meta device: names and shapes without values."""
        with on_meta():
            return create_model(self.name, in_chans=in_chans, **self.options)


def plan_backbone(name: str, options: dict[str, Any] | None = None, strides: tuple[int, ...] = STRIDES) -> BackbonePlan:
    """Find out, on the meta device, how a timm model gives maps at the strides that a detector needs.

    Raises:
        ValueError: an unknown model, an option that it does not take, no map at one of the strides,
            or sizes of images that it refuses.

    Example:
        >>> plan_backbone("resnet18").channels
        (128, 256, 512)
    """
    for key in sorted(set(options or {}) & set(RESERVED)):
        raise InputError(f"backbone option {key!r} cannot be set: {RESERVED[key]}")
    try:
        return _plan(name, json.dumps(options or {}, sort_keys=True), strides)
    except TypeError:
        raise InputError(
            f"backbone options {options} do not fit a YAML; give numbers, strings, lists, mappings"
        ) from None


@cache
def _plan(name: str, options: str, strides: tuple[int, ...]) -> BackbonePlan:
    asked: dict[str, Any] = json.loads(options)
    info: Any = _on_meta(name, asked).feature_info
    levels = {
        reduction: (index, channels)
        for index, reduction, channels in zip(info.out_indices, info.reduction(), info.channels(), strict=True)
    }
    if missing := [stride for stride in strides if stride not in levels]:
        needed = f"{', '.join(map(str, strides[:-1]))} and {strides[-1]}"
        raise InputError(
            f"timm model {name!r} has no map at stride {missing[0]}; a detector needs strides {needed}: {FITTING}"
        )
    indices, channels = zip(*(levels[stride] for stride in strides), strict=True)
    refusal = ""
    for any_size in ANY_SIZE:
        plan_options = {**any_size, **asked}
        try:
            model = _on_meta(name, plan_options, out_indices=indices)
            orders = {_channels_last(model, size, channels, strides) for size in SIZES}
        except Exception as error:  # whatever a family raises on a size that it does not take
            refusal = refusal or line_of(error)
            continue
        return BackbonePlan(name, indices, channels, orders == {True}, plan_options)
    raise InputError(
        f"timm model {name!r} does not take images of any size ({refusal[:160]}); a detector needs all multiples "
        f"of 32: {FITTING}"
    )


def _on_meta(name: str, options: dict[str, Any], **kwargs: Any) -> nn.Module:
    """The feature extractor without values; an option that the model does not take is one line."""
    try:
        with on_meta():
            return create_model(name, features_only=True, **kwargs, **options).eval()
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument.*?'(\w+)'", str(error))
        if unknown is None:
            raise InputError(f"timm cannot build {name!r} with {options} ({error})") from None
        raise InputError(f"timm model {name!r} does not take the option {unknown[1]!r}; leave it out") from None
    except (RuntimeError, AttributeError) as error:
        raise InputError(
            f"timm builds no feature extractor from {name!r} ({' '.join(str(error).split())[:160]}); a detector needs "
            f"maps at strides 8, 16 and 32: {FITTING}"
        ) from None


def _channels_last(
    model: nn.Module, size: tuple[int, int], channels: tuple[int, ...], strides: tuple[int, ...]
) -> bool:
    """Whether the maps of an image of `size` are (B, H, W, C); ValueError if they are no maps at all."""
    with torch.device("meta"), torch.no_grad():
        shapes = [tuple(m.shape) for m in model(torch.empty(1, 3, *size))]
    grids = [(size[0] // stride, size[1] // stride) for stride in strides]
    if shapes == [(1, c, *grid) for c, grid in zip(channels, grids, strict=True)]:
        return False
    if shapes == [(1, *grid, c) for c, grid in zip(channels, grids, strict=True)]:
        return True
    raise InputError(f"maps of a {size[0]}x{size[1]} image have shapes {shapes}")


def layer_ids(features: nn.Module, full: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter of a feature extractor, from 0 at the stem, by timm's `group_matcher`.

    Raises:
        ValueError: timm knows no layers of this model.
    """
    config: Any = full.pretrained_cfg
    try:
        groups = group_parameters(full, full.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        raise InputError(
            f"layer_decay: timm knows no layers of {config['architecture']!r} (no group_matcher); use backbone_lr"
        ) from None
    names = full_names(features, full)
    ids = {own: groups[names[own]] for own, _ in features.named_parameters()}
    ranks = {layer: rank for rank, layer in enumerate(sorted(set(ids.values())))}
    return {own: ranks[layer] for own, layer in ids.items()}


def never_decayed(features: nn.Module, full: nn.Module) -> set[str]:
    """Return the parameters of a feature extractor that timm exempts from weight decay, such as position tables."""
    exempt: set[str] = full.no_weight_decay() if hasattr(full, "no_weight_decay") else set()  # type: ignore[operator]
    return {own for own, name in full_names(features, full).items() if name in exempt}


def as_maps(maps: list[Tensor], channels_last: bool) -> list[Tensor]:
    """Return maps as (B, C, H, W), views if they came out as (B, H, W, C)."""
    return [m.permute(0, 3, 1, 2) if channels_last else m for m in maps]
