"""Conversion of checkpoints into safetensors files of this package's names."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import timm
from torch import Tensor

from dualvit.files import write_atomic
from dualvit.meta import on_meta
from dualvit.models import dual_vit, dual_vit_small
from dualvit.weights.match import NETWORKS, KeyReport, compare_keys, identify
from dualvit.weights.read import CheckpointError, read_checkpoint, sha256


def to_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file in memory, the same bytes for the same content.

    The library alone writes its metadata in another order at each call, and so another SHA-256.

    Args:
        tensors: By name; contiguous, none sharing memory with another.
        metadata: What the file says besides; safetensors takes texts alone.

    Example:
        >>> import torch
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


def convert(source: str | Path, target: str | Path) -> tuple[KeyReport, str, str]:
    """Write a checkpoint as safetensors in this package's names.

    The result loads through `timm.create_model(name, checkpoint_path=target)` and `YOLO(...,
    weights=target)`. An existing target is replaced only once the new file is complete.

    Returns:
        The key report against the model, the model's name, and the target's SHA-256.

    Raises:
        CheckpointError: an unusable source, no known network in it, or keys that do not match.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"cannot write {target}: the output is safetensors; end its name in .safetensors")
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"cannot write {target}: it is the source itself; give another name")
    state = read_checkpoint(source)
    name = identify(state)
    if name is None:
        raise CheckpointError(f"{source} holds no network of a known size ({', '.join(NETWORKS)})")
    classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    first = timm.get_pretrained_cfg(name).first_conv
    in_chans = state[f"{first if isinstance(first, str) else first[0]}.weight"].shape[1]
    labels = {"token_label": "aux_head.weight" in state} if name in dual_vit_small.CONFIGS | dual_vit.CONFIGS else {}
    with on_meta():
        model = timm.create_model(name, num_classes=classes, in_chans=in_chans, **labels)
    report = compare_keys(model.state_dict(), state, source)
    if not report.matches:
        raise CheckpointError(f"nothing written: {report}; give a complete {name} checkpoint")
    metadata = {"format": "pt", "architecture": name, "num_classes": str(classes), "source": source.name}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, to_safetensors({k: v.contiguous() for k, v in state.items()}, metadata))
    return report, name, sha256(target)
