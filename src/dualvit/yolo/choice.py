"""Which backbone? What a timm model is under a YOLO: its maps, its parameters, and the work of the whole model."""

from dataclasses import dataclass
from typing import Any

import torch
import ultralytics.nn.tasks as tasks
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dualvit.backbones.timm_model import STRIDES, plan_backbone
from dualvit.errors import InputError
from dualvit.meta import on_meta
from dualvit.yolo.patches import yaml_options
from dualvit.yolo.pretrain import outputs


@dataclass(frozen=True)
class Choice:
    """A backbone under a YOLO.

    Attributes:
        name: The timm model.
        channels: Of its maps, by stride.
        parameters: Of the backbone.
        whole: Parameters of the YOLO on it.
        gflops: Of one picture through that YOLO, twice the multiply-adds, as Ultralytics counts.
    """

    name: str
    channels: dict[int, int]
    parameters: int
    whole: int
    gflops: float


def yaml_on(yolo: str, name: str) -> dict[str, Any]:
    """Return the model YAML of a YOLO with another backbone.

    Args:
        yolo: Such as `yolo26n-timm.yaml`.
        name: The timm model.
    """
    with yaml_options({"backbone": name}):
        d: dict[str, Any] = tasks.yaml_model_load(yolo)
    return d


def choice(name: str, yolo: str, image_size: int) -> Choice:
    """Return what a timm model is under a YOLO; nothing is computed, and no weights are made.

    Args:
        name: The timm model.
        yolo: A model YAML on a timm backbone, such as `yolo26n-timm.yaml`.
        image_size: Height and width in pixels; a multiple of 32.

    Raises:
        ValueError: the model has no maps at strides 8, 16 and 32, or takes no images of any size; or another YAML.

    Example:
        >>> found = choice("resnet18", "yolov8n-timm.yaml", 640)
        >>> found.channels, round(found.parameters / 1e6, 1)
        ({8: 128, 16: 256, 32: 512}, 11.2)
    """
    if image_size < 32 or image_size % 32:
        raise InputError(f"image_size is {image_size}; give a multiple of 32, such as 640")
    plan = plan_backbone(name)
    with on_meta(), torch.no_grad():
        rows: nn.Module = tasks.parse_model(yaml_on(yolo, name), ch=3, verbose=False)[0].eval()
        head: Any = rows[-1]  # type: ignore[index]
        if hasattr(head, "one2one_cv2") and hasattr(head, "fuse"):
            head.fuse()  # of its two branches one answers
        head.train()  # without places of boxes, which are no work to speak of and need values
        image = torch.empty(1, 3, image_size, image_size)
        # Plain attention: torch does not count every fused kernel.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            outputs(rows, image)  # type: ignore[arg-type]
    backbone, whole = (sum(p.numel() for p in part.parameters()) for part in (rows[0], rows))  # type: ignore[index]
    gflops = counter.get_total_flops() / 1e9
    return Choice(name, dict(zip(STRIDES, plan.channels, strict=True)), backbone, whole, gflops)


def build(name: str, yolo: str) -> nn.Module:
    """Build a YOLO on a timm model, to be timed."""
    model: nn.Module = tasks.DetectionModel(yaml_on(yolo, name), verbose=False)
    return model.eval()
