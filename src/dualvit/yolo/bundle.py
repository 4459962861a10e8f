"""A detector in one safetensors file: weights, model YAML, task and class names, no pickle.

`YOLO("run.safetensors")` opens it, and `YOLO.save_weights` writes it, out of any run. What a file says is checked
before anything is built from it, and so is what is written: a file that is written can be opened.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn

from dualvit.files import write_atomic
from dualvit.stored import StoredError, check_classes, check_weights
from dualvit.weights import CheckpointError, to_safetensors
from dualvit.yolo.row_checks import SETTINGS, check_model, check_yaml


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


def write_bundle(model: nn.Module, path: str | Path, half: bool = True, about: Mapping[str, str] | None = None) -> Path:
    """Write a YOLO model's weights, YAML, task and names; floats in half precision unless `half=False`.

    What it says `about` the model besides, in texts, is not read again.
    """
    path = Path(path)
    if model.is_fused():  # type: ignore[operator]
        raise CheckpointError(
            f"cannot write {path}: the model was fused for inference; open its file again, and write that"
        )
    yaml = {key: value for key, value in model.yaml.items() if key in SETTINGS}  # type: ignore[union-attr,operator]
    weights = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "format": "pt",
        "yaml": json.dumps(yaml),
        "task": str(getattr(model, "task", "detect")),
        "names": json.dumps(model.names),
        **(about or {}),
    }
    try:
        _parse(metadata, weights)
    except StoredError as error:
        raise CheckpointError(f"cannot write {path}: {error}; keep this model as .pt") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, to_safetensors(weights, metadata))
    return path


def read_bundle(path: str | Path) -> Bundle:
    """Read a file of `write_bundle`.

    Raises:
        CheckpointError: no such file, a truncated one, one without a YOLO model in it, or one that asks for more
            than a model: what it says is data, and nothing in it is evaluated, opened or fetched.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a file that YOLO.save_weights wrote")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); fetch it again") from None
    if "yaml" not in metadata:
        raise CheckpointError(
            f"{path} holds no YOLO model; a backbone's weights go to YOLO('yolov8n-dualvit.yaml', weights=...)"
        )
    try:
        return _parse(metadata, weights)
    except StoredError as error:
        raise CheckpointError(f"{path} was not opened: {error}; give a file that YOLO.save_weights wrote") from None


def _parse(metadata: dict[str, str], weights: dict[str, Tensor]) -> Bundle:
    """What the texts of a file say, checked against each other and against its weights.

    Raises:
        StoredError: something is missing, malformed, or not let through.
    """
    try:
        yaml, names, task = json.loads(metadata["yaml"]), json.loads(metadata["names"]), metadata["task"]
    except KeyError as error:
        raise StoredError(f"it has no {error.args[0]}") from None
    except (ValueError, RecursionError):
        raise StoredError("its model YAML or names are no JSON") from None
    check_yaml(yaml, task)
    if not isinstance(names, dict) or not all(re.fullmatch(r"\d{1,6}", index) for index in names):
        raise StoredError("its names are no mapping from numbers to classes")
    classes = {int(index): name for index, name in names.items()}
    if sorted(classes) != list(range(yaml.get("nc", len(classes)))):
        raise StoredError(f"it names {len(classes)} classes, and its model has {yaml.get('nc')}")
    check_classes(classes.values(), "its names")
    check_weights(weights)
    check_model(yaml, weights)
    return Bundle(yaml, task, classes, weights)


def fill(kind: type[nn.Module], bundle: Bundle) -> nn.Module:
    """Build the model of a bundle, an Ultralytics model class `kind`, with its weights and names."""
    model = kind(bundle.yaml, verbose=False)
    own = model.state_dict()
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in bundle.weights.items()})
    model.names, model.task = bundle.names, bundle.task  # type: ignore[assignment]
    return model.eval()
