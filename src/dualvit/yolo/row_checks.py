"""The model YAML that a file stores: known rows and settings alone, checked before Ultralytics builds them.

Ultralytics evaluates a YAML's activation, and builds whatever its rows name: functions that unpickle a file or fetch
weights among them. A YAML that the user names is the user's own; one that comes inside a file of weights is not.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
import ultralytics
import ultralytics.nn.tasks as tasks
from torch import Tensor, nn

import dualvit.models.mixers  # noqa: F401  (registers them)
from dualvit.errors import line_of
from dualvit.models.registry import MIXERS
from dualvit.stored import StoredError, check_network, check_shapes, check_value, filled_by

# Of a whole YAML; `weights` is not among them, since the file brings its own.
SETTINGS = frozenset(
    {"nc", "channels", "scale", "scales", "depth_multiple", "width_multiple", "activation", "kpt_shape", "reg_max",
     "end2end", "backbone", "head", "backbone_lr", "layer_decay", "drop_path_rate", "from_scratch"}
)  # fmt: skip
OURS = frozenset({"TimmBackbone", "FeatureMap", "C2fMixer", "C2fDual"})
POOLS = {"SPP": 1, "SPPELAN": 2, "SPPF": 1, "nn.MaxPool2d": 0}  # and their arguments before the sizes of windows
HEADS = {
    "Detect": "detect", "v10Detect": "detect", "Segment": "segment", "Segment26": "segment", "Classify": "classify",
    "Pose": "pose", "Pose26": "pose", "OBB": "obb", "OBB26": "obb", "SemanticSegment": "semantic", "Depth": "depth",
}  # fmt: skip
# What stock YAMLs of YOLOv3 to YOLO26 are made of, without what fetches weights (TorchVision) or reads text.
LAYERS = frozenset(
    {"A2C2f", "AConv", "ADown", "AIFI", "Bottleneck", "BottleneckCSP", "C2", "C2PSA", "C2f", "C2fCIB", "C2fPSA", "C3",
     "C3Ghost", "C3k2", "C3x", "CBFuse", "CBLinear", "Concat", "Conv", "ConvTranspose", "DWConv", "ELAN1", "Focus",
     "GhostBottleneck", "GhostConv", "HGBlock", "HGStem", "Index", "PSA", "RepC3", "RepNCSPELAN4", "ResNetLayer",
     "SCDown", "nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Identity", "nn.Upsample", "nn.ZeroPad2d",
     *OURS, *POOLS, *HEADS}
)  # fmt: skip
WORDS = frozenset({"None", "nc", "kpt_shape", "nearest", "bilinear", *MIXERS})  # texts that a row's arguments may hold
ACTIVATION = re.compile(
    r"(torch\.)?nn\.(CELU|ELU|GELU|Hardswish|Hardtanh|Identity|LeakyReLU|Mish|ReLU|ReLU6|SELU|SiLU|Softplus|Tanh)"
    r"\(([\d.]{0,8}|inplace=(True|False))\)"
)
MOST_ROWS, MOST_REPEATS, LARGEST_POOL, MOST_CLASSES = 256, 64, 64, 65536
SIDE = 256  # of the image that Ultralytics finds a model's strides with
MOST_VALUES = 1 << 27  # in all maps of such an image


def check_yaml(yaml: Any, task: str) -> None:
    """Let a stored model YAML through if nothing in it fetches, opens or evaluates anything.

    Args:
        yaml: As `YOLO(...).model.yaml` holds it.
        task: What the file says that the model is for.

    Raises:
        StoredError: naming the first row or setting that is not let through.
    """
    if not isinstance(yaml, Mapping):
        raise StoredError("its model YAML is no mapping")
    for key in sorted(set(yaml) - SETTINGS, key=str):
        raise StoredError(f"its model YAML sets {str(key)[:60]!r}, which a stored one may not")
    check_value({key: value for key, value in yaml.items() if key not in ("activation", "backbone", "head")}, "yaml")
    _check_settings(yaml)
    rows = [*_rows(yaml, "backbone"), *_rows(yaml, "head")]
    if not rows or len(rows) > MOST_ROWS:
        raise StoredError(f"its model YAML has {len(rows)} rows; 1 to {MOST_ROWS} are let through")
    for number, row in enumerate(rows):
        _check_row(row, number)
    head = rows[-1][2]
    if HEADS.get(head) != task:
        raise StoredError(f"its model ends in {head}, which is no head for task {task[:60]!r}")


def _rows(yaml: Mapping[str, Any], part: str) -> list[Any]:
    rows = yaml.get(part)
    if not isinstance(rows, list):
        raise StoredError(f"its model YAML has no list of rows as {part}")
    return rows


def _check_settings(yaml: Mapping[str, Any]) -> None:
    for key, low, high in (("nc", 1, MOST_CLASSES), ("channels", 1, 1024), ("reg_max", 1, 256)):
        value = yaml.get(key, low)
        if type(value) is not int or not low <= value <= high:
            raise StoredError(f"yaml.{key} is {value!r}; it lies within {low} and {high}")
    for key in ("depth_multiple", "width_multiple", "backbone_lr", "layer_decay", "drop_path_rate"):
        value = yaml.get(key)
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 16):
            raise StoredError(f"yaml.{key} is {value!r}; it lies within 0 and 16")
    scales = yaml.get("scales")
    if scales is not None and not (isinstance(scales, Mapping) and all(map(_is_scale, scales.values()))):
        raise StoredError("yaml.scales is no mapping from scales to depth, width and limit of channels")
    if not isinstance(yaml.get("scale") or "", str):
        raise StoredError("yaml.scale is no text")
    if scales and yaml.get("scale") and yaml["scale"] not in scales:
        raise StoredError(f"yaml.scale is {yaml['scale']!r}, which is none of yaml.scales")
    if "kpt_shape" in yaml:
        shape = yaml["kpt_shape"]
        if not isinstance(shape, list | tuple) or [type(n) for n in shape] != [int, int] or not 1 <= min(shape) <= 1024:
            raise StoredError("yaml.kpt_shape is not two numbers, keypoints and values of each")
    activation = yaml.get("activation")
    if activation is not None and not (isinstance(activation, str) and ACTIVATION.fullmatch(activation)):
        raise StoredError(f"its activation {str(activation)[:60]!r} is none of torch.nn's, such as nn.SiLU()")


def _is_scale(values: Any) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(
            type(value) in (int, float) and 0 <= value <= high
            for value, high in zip(values, (16, 16, 65536), strict=True)
        )
    )


def _check_row(row: Any, number: int) -> None:
    where = f"row {number} of its model YAML"
    if not (isinstance(row, list | tuple) and len(row) == 4):
        raise StoredError(f"{where} is not [from, repeats, module, arguments]")
    source, repeats, layer, args = row
    sources = source if isinstance(source, list | tuple) else [source]
    if (
        not sources
        or len(sources) > 64
        or any(type(i) is not int or not -number - 1 <= i < max(number, 1) for i in sources)
    ):
        raise StoredError(f"{where} takes {str(source)[:60]}; it takes the numbers of rows before it")
    if type(repeats) is not int or not 1 <= repeats <= MOST_REPEATS:
        raise StoredError(f"{where} is repeated {str(repeats)[:60]} times; 1 to {MOST_REPEATS} are let through")
    if not (isinstance(layer, str) and layer in LAYERS):
        raise StoredError(f"{where} names {str(layer)[:60]!r}, which is no known layer")
    if not isinstance(args, list | tuple) or len(args) > 64:
        raise StoredError(f"the arguments of {where} are no list")
    if layer == "TimmBackbone":
        _check_backbone(args, where)
        return
    check_value(args, f"arguments of {where}")
    for text in _texts(args):
        if text not in WORDS:
            raise StoredError(f"{where} has the argument {text[:60]!r}, which is none of {', '.join(sorted(WORDS))}")
    if any(size > LARGEST_POOL for size in _numbers(args[POOLS.get(layer, len(args)) :])):
        raise StoredError(f"{where} pools over more than {LARGEST_POOL} pixels")


def _check_backbone(args: Any, where: str) -> None:
    spec = args[0] if len(args) == 1 else None
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise StoredError(f"{where} names no timm model")
    names = spec["name"].values() if isinstance(spec["name"], Mapping) else [spec["name"]]
    for name in names:
        check_network(name, {key: value for key, value in spec.items() if key != "name"}, where)
    check_value(spec["name"], f"the name in {where}")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for item in items for text in _texts(item)]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def check_model(yaml: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Let a checked YAML and its weights through if they are one model, which runs.

    The model is built and run without values, so that nothing large is made of a small file.

    Raises:
        StoredError: rows that do not fit each other, or weights that do not fill the rows.
    """
    channels = yaml.get("channels", 3)
    try:
        with filled_by(weights), torch.no_grad():
            layers = tasks.parse_model(copy.deepcopy(yaml), ch=channels, verbose=False)[0]
            _run(layers, torch.empty(1, channels, SIDE, SIDE))
    except StoredError:
        raise
    except Exception as error:  # of any layer, that was given what it does not take
        line = line_of(error, 160)
        raise StoredError(f"its rows make no model in ultralytics {ultralytics.__version__} ({line})") from None
    check_shapes(layers, weights, "model.")


def _run(layers: nn.Module, image: Tensor) -> None:
    """Run rows as Ultralytics does, without the head, whose inputs are what is asked."""
    maps: list[Any] = []
    made, x = 0, image
    *body, head = layers.children()
    for layer in body:
        x = layer(_inputs(layer, maps, x))
        made += sum(part.numel() for part in (x if isinstance(x, list | tuple) else [x]))
        if made > MOST_VALUES:
            raise StoredError(f"maps of an image of {SIDE} pixels hold more than {MOST_VALUES} values")
        maps.append(x)
    head.train()(_inputs(head, maps, x))


def _inputs(layer: Any, maps: list[Any], x: Any) -> Any:
    if layer.f == -1:
        return x
    return maps[layer.f] if isinstance(layer.f, int) else [x if index == -1 else maps[index] for index in layer.f]
