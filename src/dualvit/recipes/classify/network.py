"""A classifier with weights to begin with: those of the same classes, or of others, whose head is replaced."""

import copy
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from dualvit.recipes.config import Network
from dualvit.recipes.network import build_network, load_weights, weights_file
from dualvit.weights import CheckpointError
from dualvit.weights.read import left_out_of


def build_classifier(network: Network, classes: int) -> nn.Module:
    """A timm classifier as a recipe describes it.

    A checkpoint's head is taken where it is of as many classes, and else left new, which is said in a line.

    Raises:
        ValueError: an unknown name, or weights of another network.
    """
    model = build_network(replace(network, weights=None), num_classes=classes)
    if (weights := weights_file(network)) is not None:
        line = begin_with(model, weights)
        if line:
            rank_zero_only(print)(f"note: {line}", flush=True)
    return model


def begin_with(model: Any, path: str) -> str:
    """Load a checkpoint; a line where its head does not fit, and the model's own stays.

    Raises:
        CheckpointError: an unusable file, or anything but the head does not match.
    """
    try:
        load_weights(model, path, model)
        new = sorted({name.partition(".")[0] for name in left_out_of(path) & set(model.state_dict())})
        return f"{path} has no weights of {', '.join(new)}: they are new; all else is loaded" if new else ""
    except CheckpointError as error:
        headless = copy.deepcopy(model)
        headless.reset_classifier(0)
        try:
            load_weights(headless, path, model)
        except CheckpointError:
            raise error from None
    with torch.no_grad():
        model.load_state_dict(headless.state_dict(), strict=False)
    return f"{path} has a head of other classes: the head is new, for {model.num_classes} classes; all else is loaded"
