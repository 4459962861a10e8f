"""Checkpoints: safe reading, both layouts, key reports, conversion, sha256."""

from dualvit.weights.convert import convert, to_safetensors
from dualvit.weights.match import KeyReport, identify, load_backbone
from dualvit.weights.read import CheckpointError, read_checkpoint, sha256

__all__ = [
    "CheckpointError",
    "KeyReport",
    "convert",
    "identify",
    "load_backbone",
    "read_checkpoint",
    "sha256",
    "to_safetensors",
]
