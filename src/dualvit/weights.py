"""Checkpoints: safe reading, both layouts, key reports, sha256.

No function here executes pickled code: tensors, containers, `argparse.Namespace` and NumPy scalars
are let through, anything else is refused by name.
"""

import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from timm.models import load_state_dict, model_entrypoint
from torch import Tensor, nn

from dualvit.backbones.meta import on_meta
from dualvit.backbones.timm_model import full_names
from dualvit.files import at_limit, cannot, write_atomic
from dualvit.models import dual_vit, pvt, region_vit
from dualvit.models.published import DUAL_VIT, is_published, to_native

_LAYOUTS = (DUAL_VIT, region_vit.LAYOUT, pvt.LAYOUT)
_NAMES = (*dual_vit.CONFIGS, *region_vit.CONFIGS, *pvt.CONFIGS)
# What timm's files call the function that converts originally published checkpoints.
_CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
# What unpickling a NumPy scalar calls, wherever this NumPy version keeps it.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS = [_SCALAR, np.dtype, type(np.dtype("float64")), type(np.dtype("float32"))]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line with the remedy."""


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

    def __str__(self) -> str:
        text = f"{self.loaded} of {self.total} loaded from {self.path}"
        if self.left_out:
            text += f" ({len(self.left_out)} of the heads left out)"
        for kind, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                text += f"; {len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        return text


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file in memory, the same bytes for the same content.

    The library alone writes its metadata in another order at each call, and so another SHA-256.

    Args:
        tensors: By name; contiguous, none sharing memory with another.
        metadata: What the file says besides; safetensors takes texts alone.

    Example:
        >>> file = to_safetensors({"a": torch.zeros(2)}, {"format": "pt", "source": "a.pth"})
        >>> safetensors.torch.load(file)
        {'a': tensor([0., 0.])}
    """
    plain = safetensors.torch.save(dict(tensors))
    size = int.from_bytes(plain[:8], "little")
    entries = {"__metadata__": dict(sorted(metadata.items()))} | json.loads(plain[8 : 8 + size])
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(plain)[8 + size :]))


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, in this package's names, without executing pickled code.

    Takes `.safetensors`, and `.pth`, `.pt` or `.pth.tar` that hold a state dict or keep one under
    `state_dict` or `model` beside optimizer and arguments; an EMA copy (`state_dict_ema`,
    `model_ema`) is preferred, as timm does.

    Raises:
        CheckpointError: no such file, a truncated or foreign file, or a pickle that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give the path of a .pth, .pth.tar or .safetensors file")
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            state = load_state_dict(str(path))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); fetch it again") from None
    except (RuntimeError, OSError, MemoryError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        if at_limit(error) or isinstance(error, PermissionError):
            raise CheckpointError(str(cannot("read", path, error))) from None  # type: ignore[arg-type]
        if "non-allowlisted" in str(error):
            raise CheckpointError(
                f"{path} wants to run code when it is unpickled, so it was not loaded; "
                "save its state dict alone, or as .safetensors"
            ) from None
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} is truncated or no checkpoint ({line[:120]}); fetch it again") from None
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(state):
        raise CheckpointError(f"{path} holds no state dict; give a file with names and tensors")
    return to_native(tensors, _LAYOUTS)


def compare_keys(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> KeyReport:
    """Compare a state dict's names and shapes with a model's."""
    own = model.state_dict()
    fits = [name for name, value in own.items() if name in state and state[name].shape == value.shape]
    # An entry of another shape is both missing and unexpected.
    missing = tuple(name for name in own if name not in fits)
    unexpected = tuple(name for name in state if name not in own or state[name].shape != own[name].shape)
    return KeyReport(path, len(fits), len(own), missing, unexpected)


def load_weights(model: nn.Module, path: str | Path, partial: bool = False) -> KeyReport:
    """Load a checkpoint into a model: all keys, or, with `partial`, those that fit.

    Raises:
        CheckpointError: an unusable file, or keys that do not match and `partial` was not asked for.
    """
    state = read_checkpoint(path)
    report = compare_keys(model, state, Path(path))
    if not partial:
        _require_match(report, state)
    fits = {name: state[name] for name in model.state_dict() if name not in report.missing}
    model.load_state_dict(fits, strict=False)
    return report


def load_backbone(features: nn.Module, path: str | Path, whole: nn.Module) -> KeyReport:
    """Load a checkpoint of a whole timm network into a feature extractor made from it.

    The file may be in this package's or timm's layout, or in any that timm converts for this family
    (the originally published ones), or a state dict of the extractor itself. What of `whole` the
    extractor lacks (the classifier above all) is left out; everything else must match, both ways.

    Args:
        features: As `timm.create_model(..., features_only=True)` builds it.
        path: The checkpoint.
        whole: The same model without `features_only`; the meta device will do.

    Raises:
        CheckpointError: an unusable file, or keys that do not match.
    """
    state = read_checkpoint(path)
    names = full_names(features, whole)  # own name: name in the network
    own = features.state_dict()
    if not set(own) <= set(state):
        state = _converted(state, whole)
        own = {names[name]: value for name, value in own.items()}
    config: Any = whole.pretrained_cfg
    classifier = config.get("classifier") or ()
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    known = set(whole.state_dict())
    left_out = tuple(name for name in state if name not in own and (name in known or name.startswith(heads)))
    fits = {name for name, value in own.items() if name in state and state[name].shape == value.shape}
    missing = tuple(name for name in own if name not in fits)
    unexpected = tuple(name for name in state if name not in left_out and name not in fits)
    report = KeyReport(Path(path), len(fits), len(own), missing, unexpected, left_out)
    _require_match(report, state)
    with torch.no_grad():
        for value, target in zip((state[name] for name in own), features.state_dict().values(), strict=True):
            target.copy_(value)
    return report


def _converted(state: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """A state dict in timm's names, by the converter that the family's own file in timm keeps."""
    config: Any = whole.pretrained_cfg
    family = importlib.import_module(model_entrypoint(config["architecture"]).__module__)
    converter = next((getattr(family, name) for name in _CONVERTERS if hasattr(family, name)), None)
    if converter is None:
        return state
    try:
        with torch.no_grad():
            model = (whole,) if len(inspect.signature(converter).parameters) > 1 else ()
            return dict(converter(dict(state), *model))
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return state  # of another model: the key report will say so


def _require_match(report: KeyReport, state: Mapping[str, Tensor]) -> None:
    if report.missing or report.unexpected:
        found = identify(state)
        hint = f"it is a checkpoint of {found}" if found else "give a checkpoint of this very model"
        raise CheckpointError(f"weights do not match: {report}; {hint}")


@cache
def _stage_shapes(name: str) -> dict[str, torch.Size]:
    with on_meta():
        own = timm.create_model(name, num_classes=0).state_dict()
    return {key: value.shape for key, value in own.items() if key.startswith("stages.")}


def identify(state: Mapping[str, Tensor]) -> str | None:
    """The name of the Dual-ViT, RegionViT or PVT that a state dict belongs to, or None; heads do not count."""
    given = {key: value.shape for key, value in state.items() if key.startswith("stages.")}
    # Equal, not a part of it: the blocks of one size may be the first ones of another.
    return next((name for name in _NAMES if given and _stage_shapes(name) == given), None)


def convert(source: str | Path, target: str | Path) -> tuple[KeyReport, str, str]:
    """Write a checkpoint as safetensors in this package's names.

    The result loads through `timm.create_model(name, checkpoint_path=target)` and `YOLO(...,
    backbone_weights=target)`. An existing target is replaced only once the new file is complete.

    Returns:
        The key report against the model, the model's name, and the target's SHA-256.

    Raises:
        CheckpointError: an unusable source, no known network in it, or keys that do not match.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"cannot write {target}: the output is safetensors; end its name in .safetensors")
    state = read_checkpoint(source)
    name = identify(state)
    if name is None:
        raise CheckpointError(f"{source} holds no network of a known size ({', '.join(_NAMES)})")
    classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    first = timm.get_pretrained_cfg(name).first_conv
    in_chans = state[f"{first if isinstance(first, str) else first[0]}.weight"].shape[1]
    labels = {"token_label": "aux_head.weight" in state} if name in dual_vit.CONFIGS else {}
    with on_meta():
        model = timm.create_model(name, num_classes=classes, in_chans=in_chans, **labels)
    report = compare_keys(model, state, source)
    if report.missing or report.unexpected:
        raise CheckpointError(f"nothing written: {report}; give a complete {name} checkpoint")
    metadata = {"format": "pt", "architecture": name, "num_classes": str(classes), "source": source.name}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, to_safetensors({k: v.contiguous() for k, v in state.items()}, metadata))
    return report, name, sha256(target)


__all__ = [
    "CheckpointError",
    "KeyReport",
    "convert",
    "identify",
    "is_published",
    "load_backbone",
    "load_weights",
    "read_checkpoint",
    "sha256",
    "to_safetensors",
]
