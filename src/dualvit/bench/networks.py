"""Models by name for the cost bench: any timm model, or an Ultralytics YAML, with options behind colons."""

from collections.abc import Callable
from typing import Any

import timm
import torch
import yaml  # type: ignore[import-untyped]
from timm.layers import LayerScale
from torch import nn

from dualvit.errors import InputError
from dualvit.fast import accelerate
from dualvit.models import create_model, size_options
from dualvit.names import unknown_name

Detector = Callable[[str, dict[str, Any]], nn.Module]  # builds an Ultralytics YAML


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """A model's name and options: `dualvit_s`, `dualvit_s:semantic_grid=8x8:key_grid=14x14`, `pyramid_n:mixer=local`.

    Values are read as YAML; `8x8` is short for `[8, 8]`.

    Raises:
        ValueError: an unknown model, with the nearest names, or an option without a value.

    Example:
        >>> parse_model("dualvit_s:semantic_grid=8x8")
        ('dualvit_s', {'semantic_grid': (8, 8)})
    """
    name, *pairs = text.split(":")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or not value:
            raise InputError(f"model {text!r} has the option {pair!r}; write name:option=value")
        sides = value.split("x")
        grid = len(sides) == 2 and all(side.isdigit() for side in sides)
        options[key] = tuple(map(int, sides)) if grid else yaml.safe_load(value)
    if not name.endswith((".yaml", ".yml")) and not timm.is_model(name.split(".", 1)[0]):
        raise InputError(unknown_name("model", name, timm.list_models()))
    return name, options


def bench_network(text: str, size: int, features: bool, detector: Detector | None = None) -> nn.Module:
    """Build a model, with fresh weights, for square pictures of this size; a YAML by `detector`.

    Layer scales are set to 1: at their initial 1e-6 no block would leave a trace in the outputs, and errors of
    low precision would not show.
    """
    name, options = parse_model(text)
    torch.manual_seed(0)
    if name.endswith((".yaml", ".yml")):
        if detector is None:
            raise InputError(f"{name} is an Ultralytics YAML, and no detector builds it here; name a timm model")
        return detector(name, options)
    options = size_options(name, size) | options
    model = accelerate(create_model(name, **options, **({"features_only": True} if features else {})))
    for module in model.modules():
        for parameter in module.parameters(recurse=False) if isinstance(module, LayerScale) else ():
            nn.init.ones_(parameter)
    return model
