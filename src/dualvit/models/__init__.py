"""Whole networks, one file a family: config table, model, timm entry points."""

from typing import Any

import timm
from torch import nn

from dualvit.errors import InputError
from dualvit.names import unknown_name


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model`, with a suggestion where the name is unknown.

    Args:
        name: Any timm model; `dualvit.list_models()` names ours.
        kwargs: As for `timm.create_model`, such as num_classes, in_chans, features_only,
            checkpoint_path; for ours also each field of the family's config, such as `mixer` for a
            pyramid.

    Raises:
        ValueError: there is no model of that name.
    """
    if not timm.is_model(name.split(".", 1)[0]):
        raise InputError(unknown_name("model", name, timm.list_models()))
    return timm.create_model(name, **kwargs)


def size_options(name: str, image_size: int) -> dict[str, int]:
    """Return the option by which a timm model of one fixed image size is built for another; none for other models.

    Example:
        >>> size_options("vit_tiny_patch16_224", 96), size_options("dualvit_n", 96)
        ({'img_size': 96}, {})
    """
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".", 1)[0]) else None
    return {"img_size": image_size} if config is not None and config.fixed_input_size else {}


__all__ = ["create_model", "size_options", "unknown_name"]
