"""The network of a recipe, from timm's registry, with its weights; and what pictures it takes."""

from typing import Any

from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from dualvit.backbones.recompute import recompute_blocks
from dualvit.errors import InputError
from dualvit.models import create_model
from dualvit.recipes.config import Network
from dualvit.weights import load_backbone


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
    if network.weights is not None:
        load_backbone(model, network.weights, model)
    recompute_blocks(model, network.grad_checkpointing)
    return model


def normalisation(network: nn.Module | str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that a timm model, or the one of this name, takes."""
    if isinstance(network, str):
        config = get_pretrained_cfg(network, allow_unregistered=True)
        # An unknown name is an error of whoever builds the network, which can say more.
        values = resolve_data_config(args={}, pretrained_cfg=config.to_dict() if config else {"input_size": (3, 1, 1)})
    else:
        values = resolve_data_config(model=network)
    return tuple(values["mean"]), tuple(values["std"])
