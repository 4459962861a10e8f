"""Whole networks, one file a family: config table, model, timm entry points."""

from difflib import get_close_matches
from typing import Any

import timm
from torch import nn


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """One line for a name that does not exist, with the nearest ones that do."""
    near = get_close_matches(name, known, n=3)
    return f"unknown {kind} {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model`, with a suggestion where the name is unknown.

    Args:
        name: Any timm model; `dualvit.list_models()` names ours.
        kwargs: As for `timm.create_model`, such as num_classes, in_chans, features_only,
            checkpoint_path; for ours also each field of `DualViTConfig`.

    Raises:
        ValueError: there is no model of that name.
    """
    if not timm.is_model(name.split(".", 1)[0]):
        raise ValueError(unknown_name("model", name, timm.list_models()))
    return timm.create_model(name, **kwargs)
