"""`start=True`: a YOLO model begins from the weights that the package ships for it, or for its backbone."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import LOGGER

from dualvit.errors import InputError
from dualvit.weights import load_backbone
from dualvit.weights.starts import misfit, start_file, start_names
from dualvit.yolo.bundle import Bundle, read_bundle
from dualvit.yolo.groups import backbone_of


def load_start(model: nn.Module) -> str:
    """Load the shipped start: of the whole model if there is one, else of its backbone.

    In the head, what belongs to another number of classes stays as initialised.

    Args:
        model: A YOLO model; changed in place.

    Returns:
        What was loaded, in words, as the log has it.

    Raises:
        ValueError: no start is shipped for the backbone, or it does not fit.
    """
    name = backbone_name(model.yaml)  # type: ignore[arg-type]
    whole = Path(str(model.yaml.get("yaml_file", ""))).stem  # type: ignore[union-attr,operator]
    if name is None:
        raise InputError("start is for models on a timm backbone; leave it out")
    start_file(name)  # or an error that names those that there are
    report = None
    if whole in start_names():
        bundle = read_bundle(start_file(whole))
        if backbone_name(bundle.yaml) == name:
            report = _fill(model, bundle, whole)
    if report is None:
        report = _fill_backbone(model, name)
    LOGGER.info(f"start: {report}")
    return report


def backbone_name(yaml: dict[str, Any]) -> str | None:
    """Return the name of the timm model in a model YAML's rows, of the YAML's scale; None if there is none."""
    names = [row[3][0]["name"] for row in yaml.get("backbone") or [] if row[2] == "TimmBackbone"]
    if names and isinstance(names[0], dict):
        scaled: str | None = names[0].get(yaml.get("scale") or next(iter(names[0])))
        return scaled
    return names[0] if names else None


def _fill(model: nn.Module, bundle: Bundle, name: str) -> str:
    """Load a whole model's start; its last row may have another number of classes."""
    own: dict[str, Tensor] = model.state_dict()
    head = f"model.{len(model.model) - 1}."  # type: ignore[arg-type]
    if odd := sorted(set(own) ^ set(bundle.weights)):
        raise misfit(name, f"{odd[0]} is in one of them alone")
    other = [entry for entry, value in own.items() if bundle.weights[entry].shape != value.shape]
    same_classes = model.yaml.get("nc") == bundle.yaml.get("nc")  # type: ignore[union-attr,operator]
    if wrong := [entry for entry in other if same_classes or not entry.startswith(head)]:
        shapes = f"{tuple(own[wrong[0]].shape)}, and there {tuple(bundle.weights[wrong[0]].shape)}"
        raise misfit(name, f"{wrong[0]} is {shapes}")
    with torch.no_grad():
        for entry in set(own) - set(other):
            own[entry].copy_(bundle.weights[entry])
    said = f"{len(own) - len(other)} of {len(own)} entries of {start_file(name)}"
    if other:
        rows = sorted({entry.removesuffix(".weight").removesuffix(".bias") for entry in other})
        said += (
            f"; as initialised, since it has {bundle.yaml.get('nc')} classes and this model "
            f"{model.yaml.get('nc')}: {', '.join(rows)}"  # type: ignore[union-attr,operator]
        )
    return said


def _fill_backbone(model: nn.Module, name: str) -> str:
    backbone = backbone_of(model)
    assert backbone is not None  # the YAML has such a row
    try:
        report = load_backbone(backbone.model, start_file(name), backbone.full_network())
    except InputError as error:
        raise misfit(name, str(error)) from None
    return f"{report.loaded} of {report.total} entries of the backbone from {report.path}; neck and head as initialised"
