"""Weights of timm models that lie on this machine, so that nothing need be fetched."""

from pathlib import Path

import timm
import torch
from huggingface_hub import try_to_load_from_cache

from dualvit.errors import MissingExtraError
from dualvit.weights.packaged import PACKAGES, packaged_file

FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository of timm's


def at_hand(name: str) -> Path | None:
    """Return a file of weights of a timm model from the caches of timm and torch, or from an installed package.

    Args:
        name: Of the model; without a tag its default weights are looked for.

    Returns:
        The file, or None if there is none; of N and T the start in this package.

    Example:
        >>> at_hand("dualvit_n").name, at_hand("dualvit_s")
        ('dualvit_n.safetensors', None)
    """
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    if config.file:
        return Path(config.file)
    if config.hf_hub_id:
        repository = config.hf_hub_id + name.partition(".")[0] if config.hf_hub_id.endswith("/") else config.hf_hub_id
        for file in FILES:
            found = try_to_load_from_cache(repository, file)
            if isinstance(found, str):
                return Path(found)
    if config.url:
        fetched = Path(torch.hub.get_dir()) / "checkpoints" / config.url.rpartition("/")[2]
        if fetched.is_file():
            return fetched
    if name in PACKAGES:
        try:
            return packaged_file(name)
        except MissingExtraError:
            return None
    return None
