"""Gradient checkpointing of any network, whole or by stage: less memory in training for more time."""

from collections.abc import Sequence

from torch import nn

from dualvit.errors import InputError
from dualvit.models.contract import Backbone


def recompute_blocks(network: nn.Module, stages: bool | Sequence[int]) -> None:
    """Let blocks be computed again in the backward pass instead of keeping their activations; also inside timm's
    wrapper for features.

    Args:
        network: A full network or a feature extractor.
        stages: Whether, or in which stages from 0; a network that is not of this package knows all or none.

    Raises:
        ValueError: the network cannot, or not by stage, or has no such stage.

    Example:
        >>> import dualvit
        >>> network = dualvit.create_model("dualvit_n", features_only=True)
        >>> recompute_blocks(network, (0, 1))  # the stages that hold most
    """
    if stages is False:
        return
    for part in (network, getattr(network, "model", None)):
        if isinstance(part, Backbone):
            part.set_grad_checkpointing(True, None if stages is True else stages)
            return
        if callable(switch := getattr(part, "set_grad_checkpointing", None)):
            if stages is not True:
                raise InputError(f"{type(part).__name__} cannot recompute by stage; give true for all of its blocks")
            switch(True)
            return
    raise InputError(f"{type(network).__name__} cannot recompute its blocks; leave grad_checkpointing out")
