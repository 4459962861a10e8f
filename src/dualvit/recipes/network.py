"""The network of a recipe, from timm's registry, with its weights."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from dualvit.backbones.recompute import recompute_blocks
from dualvit.errors import InputError
from dualvit.models import create_model
from dualvit.names import START
from dualvit.recipes.config import Network
from dualvit.weights import load_backbone
from dualvit.weights.starts import start_file


def weights_file(network: Network) -> str | None:
    """Return the file of weights that a recipe begins with, a shipped one if it says `start`.

    Raises:
        ValueError: no start is shipped for this network.
    """
    return str(start_file(network.name)) if network.weights == START else network.weights


def load_weights(model: nn.Module, file: str, full: nn.Module) -> None:
    """Load weights into a network, and say in a line how many entries came from which file.

    Raises:
        ValueError: an unusable file, or weights of another network.
    """
    report = load_backbone(model, file, full)
    rank_zero_only(print)(f"weights: {report}", flush=True)


def build_network(network: Network, **kwargs: Any) -> nn.Module:
    """A timm network as a recipe describes it; no weights are downloaded.

    Further arguments, such as num_classes, are those of `timm.create_model`.

    Raises:
        ValueError: an unknown name, or weights of another network.
    """
    try:
        drop = {"drop_path_rate": network.drop_path} if network.drop_path else {}  # not every network takes it
        model = create_model(network.name, **drop, **network.options, **kwargs)
    except TypeError as error:  # of an argument that the network does not have
        raise InputError(f"{network.name} does not take network.options {dict(network.options)}: {error}") from None
    if (weights := weights_file(network)) is not None:
        load_weights(model, weights, model)
    recompute_blocks(model, network.grad_checkpointing)
    return model
