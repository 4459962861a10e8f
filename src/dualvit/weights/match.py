"""Weights against networks: whose they are, what fits, and loading them into a feature extractor."""

import importlib
import inspect
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.meta import on_meta
from dualvit.models import dual_vit, dual_vit_small, pvt, region_vit
from dualvit.weights.read import CheckpointError, left_out_of, read_checkpoint

NETWORKS = (*dual_vit_small.CONFIGS, *dual_vit.CONFIGS, *region_vit.CONFIGS, *pvt.CONFIGS)
# What timm's files call the function that converts originally published checkpoints.
_CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


@dataclass(frozen=True)
class KeyReport:
    """What of a checkpoint fits a model.

    Attributes:
        path: The checkpoint file.
        loaded: Model entries that the checkpoint fills.
        total: Entries that the model has.
        missing: Model entries that the checkpoint lacks.
        unexpected: Checkpoint entries that the model lacks.
        left_out: Checkpoint entries left out by name (heads, for a feature extractor).
    """

    path: Path
    loaded: int
    total: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Whether nothing is missing and nothing unexpected."""
        return not (self.missing or self.unexpected)

    def __str__(self) -> str:
        text = f"{self.loaded} of {self.total} loaded from {self.path}"
        if self.left_out:
            text += f" ({len(self.left_out)} of the heads left out)"
        for kind, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                text += f"; {len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        return text


def compare_keys(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, left_out: Container[str] = ()
) -> KeyReport:
    """Compare the names and shapes of a checkpoint's `state` with a model's `own`."""
    fits = {name for name, value in own.items() if name in state and state[name].shape == value.shape}
    # An entry of another shape is both missing and unexpected.
    missing = tuple(name for name in own if name not in fits)
    unexpected = tuple(name for name in state if name not in fits and name not in left_out)
    return KeyReport(path, len(fits), len(own), missing, unexpected, tuple(n for n in state if n in left_out))


def load_backbone(features: nn.Module, path: str | Path, full: nn.Module) -> KeyReport:
    """Load a checkpoint of a full timm network into a feature extractor made from it.

    The file may be in this package's or timm's layout, or in any that timm converts for this family
    (the originally published ones), or a state dict of the extractor itself. What of the full network
    the extractor lacks (the classifier above all) is left out; everything else must match, both ways.

    Args:
        features: As `timm.create_model(..., features_only=True)` builds it.
        path: The checkpoint.
        full: The same model without `features_only`; the meta device will do.

    Raises:
        CheckpointError: an unusable file, or keys that do not match.
    """
    state = read_checkpoint(path)
    own = features.state_dict()
    if not set(own) <= set(state):
        state = _converted(state, full)
        names = full_names(features, full)
        own = {names[name]: value for name, value in own.items()}
    absent = left_out_of(path)  # a shipped start has what was learnt; the rest stays as initialised
    own = {name: value for name, value in own.items() if name not in absent}
    classifier = _config(full).get("classifier") or ()
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    known = set(full.state_dict())
    left_out = {name for name in state if name not in own and (name in known or name.startswith(heads))}
    report = compare_keys(own, state, Path(path), left_out)
    if not report.matches:
        network = identify(state)
        hint = f"it is a checkpoint of {network}" if network else "give a checkpoint of this very model"
        raise CheckpointError(f"weights do not match: {report}; {hint}")
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(state[name])
    return report


def full_names(features: nn.Module, full: nn.Module) -> dict[str, str]:
    """Return the name in the full network of each entry of a feature extractor's state dict.

    timm's extractors either wrap the network (`model.`, `body.`), or take its stages out of their
    Sequential, `stages.0.` becoming `stages_0.`, or keep its names.
    """
    known = set(full.state_dict())
    stages = {
        f"{name}_{child}": f"{name}.{child}" for name, m in full.named_children() for child, _ in m.named_children()
    }
    names = {}
    for name in features.state_dict():
        first, _, rest = name.partition(".")
        candidates = (name, f"{stages.get(first, first)}.{rest}", rest)
        names[name] = next((candidate for candidate in candidates if candidate in known), "")
        if not names[name]:
            raise InputError(f"{name} of the feature extractor is not in timm's {type(full).__name__}")
    return names


def in_full_names(features: nn.Module, full: nn.Module) -> dict[str, Tensor]:
    """Return a feature extractor's state dict under the full network's names, on the CPU."""
    names = full_names(features, full)
    return {names[name]: value.detach().cpu().contiguous() for name, value in features.state_dict().items()}


def _config(full: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = full.pretrained_cfg  # type: ignore[assignment]
    return config


def _converted(state: dict[str, Tensor], full: nn.Module) -> dict[str, Tensor]:
    """Return a state dict in timm's names, by the converter that the family's own file in timm keeps."""
    family = importlib.import_module(model_entrypoint(_config(full)["architecture"]).__module__)
    converter = next((getattr(family, name) for name in _CONVERTERS if hasattr(family, name)), None)
    if converter is None:
        return state
    try:
        with torch.no_grad():
            model = (full,) if len(inspect.signature(converter).parameters) > 1 else ()
            return dict(converter(dict(state), *model))
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return state  # of another model: the key report will say so


@cache
def _stage_shapes(name: str) -> dict[str, torch.Size]:
    with on_meta():
        own = timm.create_model(name, num_classes=0).state_dict()
    return {key: value.shape for key, value in own.items() if key.startswith("stages.")}


def identify(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the Dual-ViT, RegionViT or PVT that a state dict belongs to, or None; heads do not count."""
    shapes = {key: value.shape for key, value in state.items() if key.startswith("stages.")}
    # Equal, not a part of it: the blocks of one size may be the first ones of another.
    return next((name for name in NETWORKS if shapes and _stage_shapes(name) == shapes), None)
