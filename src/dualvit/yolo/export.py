"""ONNX of a network by Ultralytics' own exporter, as its users get it, and what the file must answer."""

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.errors import StateError
from dualvit.yolo.model import YOLO


def export_onnx(model: YOLO, network: nn.Module, image: Tensor, file: Path) -> list[Tensor]:
    """Write `network` to an ONNX file, as `model.export(format="onnx", imgsz=...)` does, for one size and one picture.

    Args:
        model: The YOLO that the network is one of; it takes the network.
        network: In evaluation mode, not fused.
        image: (1, 3, H, H), with values from 0 to 1.
        file: Is written whole.

    Returns:
        What the file must answer to the image: boxes and scores, and for masks the prototypes.
    """
    for name in ("args", "task"):
        setattr(network, name, getattr(model.model, name))
    model.model = network
    # A head without NMS stays the one that was scored; newer versions would export the other one.
    settings: Mapping[str, Any] = {"nms": False} if getattr(network, "end2end", False) else {}
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        network.pt_path = str(Path(folder) / "network.pt")  # type: ignore[assignment]  # the export goes beside it
        written = model.export(format="onnx", imgsz=image.shape[-1], device="cpu", **settings)
        if not written:
            raise StateError("Ultralytics' exporter wrote no file")
        Path(written).replace(file)
    return answers(network, image)


def answers(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the network's outputs in the form in which Ultralytics exports them."""
    exported: Any = copy.deepcopy(network).eval()
    head = exported.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", False
    with torch.inference_mode():
        out = exported(image)
    return [out] if isinstance(out, Tensor) else [value for value in out if isinstance(value, Tensor)]
