"""Safe reading of checkpoints: tensors and plain values alone, in this package's names.

No function here executes pickled code: tensors, containers, `argparse.Namespace` and NumPy scalars
are let through, anything else is refused by name.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from timm.models import load_state_dict
from torch import Tensor

from dualvit.errors import InputError
from dualvit.files import at_limit, cannot
from dualvit.models import pvt, region_vit
from dualvit.models.published import DUAL_VIT

_LAYOUTS = (DUAL_VIT, region_vit.LAYOUT, pvt.LAYOUT)
# What unpickling a NumPy scalar calls, wherever this NumPy version keeps it.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS = [_SCALAR, np.dtype, type(np.dtype("float64")), type(np.dtype("float32"))]


class CheckpointError(InputError):
    """A checkpoint that cannot be used; the message is one line with the remedy."""


def sha256(path: str | Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def left_out_of(path: str | Path) -> frozenset[str]:
    """Return the entries that a start's file leaves out, since nothing was learnt for them; of other files none."""
    if Path(path).suffix != ".safetensors":
        return frozenset()
    try:
        with safetensors.safe_open(path, "pt") as file:
            return frozenset(json.loads((file.metadata() or {}).get("left_out", "[]")))
    except (safetensors.SafetensorError, OSError, ValueError, TypeError):
        return frozenset()  # reading the weights says what is wrong


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
    except Exception as error:  # unpickling raises many kinds for bytes that nobody wrote
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
    published = next((layout for layout in _LAYOUTS if layout.mark in tensors), None)
    return published.to_native(tensors) if published else tensors
