"""A detector in one safetensors file: weights, model YAML, task and class names, no pickle.

`YOLO("run.safetensors")` opens it, and `YOLO.save_weights` writes it, out of any run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn

from dualvit.files import write_whole
from dualvit.weights import CheckpointError, to_safetensors


@dataclass(frozen=True)
class Bundle:
    """What such a file holds.

    Attributes:
        yaml: The model YAML as a dict, scale and options included.
        task: detect, segment, classify, pose or obb.
        names: Class names by index.
        weights: The state dict.
    """

    yaml: dict[str, Any]
    task: str
    names: dict[int, str]
    weights: dict[str, Tensor]


def write_bundle(model: nn.Module, path: str | Path, half: bool = True) -> Path:
    """Write a YOLO model's weights, YAML, task and names; floats in half precision unless `half=False`."""
    path = Path(path)
    yaml = {key: value for key, value in model.yaml.items() if key not in ("backbone_weights", "yaml_file")}  # type: ignore[union-attr,operator]
    weights = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "format": "pt",
        "yaml": json.dumps(yaml),
        "task": str(getattr(model, "task", "detect")),
        "names": json.dumps(model.names),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_safetensors(weights, metadata))
    return path


def read_bundle(path: str | Path) -> Bundle:
    """Read a file of `write_bundle`.

    Raises:
        CheckpointError: no such file, a truncated one, or one without a YOLO model in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a file that YOLO.save_weights wrote")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); fetch it again") from None
    if "yaml" not in metadata:
        raise CheckpointError(
            f"{path} holds no YOLO model; a backbone's weights go to YOLO('yolov8n-dualvit.yaml', backbone_weights=...)"
        )
    names = {int(index): name for index, name in json.loads(metadata["names"]).items()}
    return Bundle(json.loads(metadata["yaml"]), metadata["task"], names, weights)


def fill(model: nn.Module, bundle: Bundle) -> nn.Module:
    """Give a model built from the bundle's YAML its weights and names."""
    own = model.state_dict()
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in bundle.weights.items()})
    model.names, model.task = bundle.names, bundle.task  # type: ignore[assignment]
    return model.eval()
