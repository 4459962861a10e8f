"""The optimizer's groups of a YOLO model on our rows: each parameter's learning rate and weight decay."""

import math

import torch
from torch import nn
from ultralytics.utils import LOGGER

from dualvit.backbones.timm_model import layer_ids, never_decayed
from dualvit.errors import InputError
from dualvit.models.dual_vit_small import SmallDualViT
from dualvit.yolo.rows import TimmBackbone, transformer_parts

# Adam's step is absolute. The weights of a new Linear are several times larger than those of a new
# convolution of Ultralytics' (1 / sqrt(inputs) against 1 / sqrt(27 inputs)), so at the same lr they
# change several times more slowly, if no BatchNorm divides their scale out, as in dualvit_n and _t.
SCRATCH_LR = 8.0
ADAM_LIKE = {"Adam", "Adamax", "AdamW", "NAdam", "RAdam"}


def backbone_of(model: nn.Module) -> TimmBackbone | None:
    """The TimmBackbone of a YOLO model, or None; under distillation the student's."""
    return next((m for m in unwrap(model).modules() if isinstance(m, TimmBackbone)), None)


def unwrap(model: nn.Module) -> nn.Module:
    """The model that learns: inside a DDP wrapper, and beside a teacher in Ultralytics' DistillationModel."""
    for name in ("module", "student_model"):
        inner = getattr(model, name, None)
        model = inner if isinstance(inner, nn.Module) else model
    return model


def regroup(optimizer: torch.optim.Optimizer, model: nn.Module, decay: float) -> None:
    """Split an optimizer's groups in place, so that each parameter is in exactly one right group.

    - No weight decay on anything with fewer than two dimensions, nor on queries, nor on what timm
      exempts in the backbone (position tables, say).
    - Biases inside the backbone or dual blocks leave the group "bias", whose warm-up starts at
      `warmup_bias_lr`.
    - `layer_decay` multiplies the lr by its power for each layer below the backbone's top;
      `backbone_lr` multiplies the lr of the full backbone.
    - Under Adam-like optimizers SCRATCH_LR multiplies the lr of the matrices and kernels of the
      parts that start from scratch in the form made for short runs, with layer norms (C2fMixer and
      the pyramids N and T).

    Ultralytics' keys `param_group` and `use_muon` stay as they are in each part of a split group.
    Under distillation the optimizer also holds what is beside the student; it keeps the stock lr.
    """
    model = unwrap(model)
    options = getattr(model, "yaml", {})
    placed = [p for group in optimizer.param_groups for p in group["params"]]
    no_decay = {id(p) for p in placed if p.ndim < 2}
    no_decay |= {id(p) for name, p in model.named_parameters() if name.endswith(".queries")}
    full = None
    if (backbone := backbone_of(model)) is not None:
        full = backbone.full_network()
        exempt = never_decayed(backbone.model, full)
        no_decay |= {id(p) for name, p in backbone.model.named_parameters() if name in exempt}
    scales = layer_scales(model, options.get("layer_decay"), options.get("backbone_lr"), full)
    if options.get("from_scratch") and type(optimizer).__name__ in ADAM_LIKE:
        for p in short_run_weights(model):
            scales[id(p)] = scales.get(id(p), 1.0) * SCRATCH_LR
    transformer = {id(p) for part in transformer_parts(model) for p in part.parameters()}
    groups = []
    for group in optimizer.param_groups:
        parts: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
        for p in group["params"]:
            undecayed = id(p) in no_decay or group["weight_decay"] == 0
            parts.setdefault((id(p) not in transformer, scales.get(id(p), 1.0), undecayed), []).append(p)
        # Neck and head first: older versions warm up the biases of group 0, whatever it is called.
        for (stock_part, scale, undecayed), params in sorted(parts.items(), key=lambda item: item[0], reverse=True):
            kind = (
                {"param_group": "bn"} if undecayed and (not stock_part or group.get("param_group") == "weight") else {}
            )
            part = {**group, "params": params, "lr": group["lr"] * scale, **kind}
            part["initial_lr"] = part["lr"]
            part["weight_decay"] = 0.0 if undecayed else decay
            groups.append(part)
    optimizer.param_groups.clear()
    for part in groups:
        optimizer.add_param_group(part)
    assert sorted(map(id, placed)) == sorted(id(p) for g in optimizer.param_groups for p in g["params"])
    kept = sum(len(g["params"]) for g in groups if g["weight_decay"])
    lrs = [g["lr"] for g in groups]
    LOGGER.info(
        f"optimizer: {len(groups)} groups, lr {min(lrs):.3g} to {max(lrs):.3g}, weight decay {decay:g} on {kept} of "
        f"{len(placed)} parameters (none on layer scales, queries, norms and biases)"
    )


def layer_scales(
    model: nn.Module, layer_decay: float | None, backbone_lr: float | None, full: nn.Module | None = None
) -> dict[int, float]:
    """The lr multiplier of each backbone parameter, by id.

    Args:
        model: A YOLO model.
        layer_decay: The multiplier from one layer to the next below, or None.
        backbone_lr: The multiplier of the full backbone, or None.
        full: `TimmBackbone.full_network()` where it is already built.

    Raises:
        ValueError: a factor outside (0, 1], or `layer_decay` for a model whose layers timm does not know.
    """
    backbone = backbone_of(model)
    if backbone is None or (layer_decay is None and backbone_lr is None):
        return {}
    for name, value in (("layer_decay", layer_decay), ("backbone_lr", backbone_lr)):
        if value is not None and not (math.isfinite(value) and 0 < value <= 1):
            raise InputError(f"{name}={value} is not in (0, 1]; 1 leaves the lr as it is")
    features = backbone.model
    if layer_decay:
        layers = layer_ids(features, backbone.full_network() if full is None else full)
    else:
        layers = dict.fromkeys(dict(features.named_parameters()), 0)
    top = max(layers.values())
    return {
        id(p): (layer_decay or 1.0) ** (top - layers[name]) * (backbone_lr or 1.0)
        for name, p in features.named_parameters()
    }


def short_run_weights(model: nn.Module) -> list[nn.Parameter]:
    """The matrices and kernels of every part that is initialised for short runs and has layer norms."""
    model = unwrap(model)
    # DualViTConfig.linear_std is None in N and T; a module that has no such attribute is no network of ours.
    ours = [m for m in model.modules() if hasattr(m, "linear_std") and m.linear_std is None]
    parts = [m for m in ours if not isinstance(m, SmallDualViT)]
    blocks = [part for part in transformer_parts(model) if not isinstance(part, TimmBackbone)]
    return [p for part in [*parts, *blocks] for p in part.parameters() if p.ndim >= 2]
