"""Where pretraining has its maps from: student and teacher by their names, and the file that a student ends in.

A name is timm's, unless another room has taken its ending: `dualvit.yolo.pretrain` takes .yaml and .pt.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from dualvit.backbones.timm_model import BackbonePlan, never_decayed, plan_backbone
from dualvit.files import write_atomic
from dualvit.models import create_model
from dualvit.weights import load_backbone, to_safetensors
from dualvit.weights.match import in_full_names

Moments = tuple[tuple[float, ...], tuple[float, ...]]
AS_THEY_ARE: Moments = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Maps(Protocol):
    """A network by the maps that it gives.

    Attributes:
        channels: Of each map, in the order of the strides.
        channels_last: Maps come out as (B, H, W, C).
    """

    @property
    def channels(self) -> tuple[int, ...]: ...
    @property
    def channels_last(self) -> bool: ...

    def build(self, weights: str | None) -> nn.Module:
        """Build the network, images (B, 3, H, W) to a list of maps; with the weights of a file, if one is named."""

    def moments(self) -> Moments:
        """Return mean and deviation of each channel of the pictures that its weights were made for."""

    def undecayed(self, features: nn.Module) -> set[str]:
        """Return the parameters that get no weight decay whatever their shape."""

    def write(self, features: nn.Module, target: Path, weights: str | None, about: Mapping[str, str]) -> "Written":
        """Write what `build` built and training changed, as the whole network that it is a part of."""


@dataclass(frozen=True)
class Written:
    """What stands in a student's file.

    Attributes:
        learnt: The entries that training changed.
        rest: Those that are as they were initialised, or as in the file that the run began with.
        use: How the file is used, in words.
    """

    learnt: tuple[str, ...]
    rest: tuple[str, ...]
    use: str


MAKERS: dict[str, Callable[[str, dict[str, Any], tuple[int, ...]], Maps]] = {}  # by the ending of a name


def maps_of(name: str, options: dict[str, Any], strides: tuple[int, ...]) -> Maps:
    """Return how a network gives maps at these strides.

    Raises:
        ValueError: an unknown network, or one without a map at one of the strides.
    """
    return MAKERS.get(Path(name).suffix, TimmMaps)(name, options, strides)


def moments(network: nn.Module | str) -> Moments:
    """Return mean and standard deviation of each channel that a timm model, or the one of this name, takes."""
    if isinstance(network, str):
        config = get_pretrained_cfg(network, allow_unregistered=True)
        # An unknown name is an error of whoever builds the network, which can say more.
        values = resolve_data_config(args={}, pretrained_cfg=config.to_dict() if config else {"input_size": (3, 1, 1)})
    else:
        values = resolve_data_config(model=network)
    return tuple(values["mean"]), tuple(values["std"])


class TimmMaps:
    """`Maps` of a timm model."""

    def __init__(self, name: str, options: dict[str, Any], strides: tuple[int, ...]) -> None:
        self.plan: BackbonePlan = plan_backbone(name, options, strides)
        self.name, self.options = name, options
        self.channels, self.channels_last = self.plan.channels, self.plan.channels_last

    def build(self, weights: str | None) -> nn.Module:
        """Build timm's feature extractor."""
        features = self.plan.build()
        if weights is not None:
            load_backbone(features, weights, self.plan.full_network())
        return features

    def moments(self) -> Moments:
        """Return what the model's pretrained configuration says."""
        return moments(self.name)

    def undecayed(self, features: nn.Module) -> set[str]:
        """Return what timm exempts."""
        return never_decayed(features, self.plan.full_network())

    def write(self, features: nn.Module, target: Path, weights: str | None, about: Mapping[str, str]) -> Written:
        """Write all entries of timm's full network as safetensors, those that no map depends on as initialised."""
        full = create_model(self.name, **self.options)
        if weights is not None:
            load_backbone(full, weights, full)
        learnt = in_full_names(features, full)
        state = {name: learnt.get(name, value).contiguous() for name, value in full.state_dict().items()}
        rest = tuple(name for name in state if name not in learnt)
        metadata = {
            "format": "pt", "architecture": self.name, "num_classes": str(getattr(full, "num_classes", 0)),
            "initialised": json.dumps(rest), **about,
        }  # fmt: skip
        write_atomic(target, to_safetensors(state, metadata))
        use = f'YOLO(..., weights="{target}"), network.weights of recipes and timm\'s checkpoint_path take it'
        return Written(tuple(learnt), rest, use)
