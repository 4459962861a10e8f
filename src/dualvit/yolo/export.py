"""Files of a network by Ultralytics' own exporter, as its users get them, and what such a file must answer."""

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import nms

from dualvit.errors import StateError
from dualvit.yolo.explained import trained_size
from dualvit.yolo.groups import unwrap
from dualvit.yolo.model import YOLO

IOU = 0.7  # of two boxes of which NMS keeps one: Ultralytics' own default


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
    with torch.inference_mode():
        return tensors(as_exported(network)(image))


def as_exported(network: nn.Module, dynamic: bool = False) -> nn.Module:
    """Return a copy in evaluation mode whose head answers as in a file."""
    exported: Any = copy.deepcopy(network).eval()
    head = exported.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", dynamic
    return exported


def tensors(out: Any) -> list[Tensor]:
    """Return a network's outputs as a list."""
    return [out] if isinstance(out, Tensor) else [value for value in out if isinstance(value, Tensor)]


class Exported(nn.Module):
    """The network of a YOLO as a file has it: images (B, 3, H, W) to a list of outputs."""

    def __init__(self, model: YOLO) -> None:
        super().__init__()
        self.network = as_exported(unwrap(model.model).float(), dynamic=True)
        head: Any = self.network.model[-1]  # type: ignore[index]
        self.free = bool(getattr(head, "end2end", False))
        self.classes = len(model.names)

    def forward(self, images: Tensor) -> list[Tensor]:
        return tensors(self.network(images))

    def boxes(self, outputs: list[Tensor], least: float) -> list[Tensor]:
        """Return rows (x1, y1, x2, y2, score, class), (N, 6), of each picture, by Ultralytics' NMS."""
        found = nms.non_max_suppression(
            outputs[0].clone(), least, IOU, nc=self.classes, end2end=self.free, max_time_img=60
        )
        return [rows[:, :6] for rows in found]


def describe(model: YOLO, image_size: int | None) -> dict[str, Any]:
    """Return what a file of this model says of itself, as `dualvit.deploy.metadata.Metadata` takes it."""
    network: Any = unwrap(model.model)
    classify = model.task == "classify"
    side = image_size or trained_size(model, 224 if classify else 640)
    free = getattr(network.model[-1], "end2end", False)
    return {
        "task": model.task,
        "classes": tuple(str(model.names[index]) for index in range(len(model.names))),
        "image_size": (side, side),
        "resize": "crop" if classify else "letterbox",
        "interpolation": "bilinear",
        "head": "probabilities" if classify else "yolo-free" if free else "yolo",
        "stride": 1 if classify else int(max(network.stride)),
        "outputs": ("output0", "output1") if model.task == "segment" else ("output0",),
    }


def export_file(model: YOLO, form: str, image_size: int, dynamic: bool, folder: Path) -> Path:
    """Write a model by Ultralytics' exporter into a folder; return the file, or the folder of OpenVINO.

    Args:
        model: It is left as it is.
        form: Ultralytics' name of the format.
        image_size: Sides in pixels.
        dynamic: Batch and size are free.
        folder: Is there already.

    Raises:
        RuntimeError: nothing was written.
    """
    network = unwrap(model.model)
    before, free = getattr(network, "pt_path", None), getattr(network.model[-1], "end2end", False)  # type: ignore[index]
    settings: dict[str, Any] = {"dynamic": dynamic} | ({"nms": False} if free else {})
    try:
        network.pt_path = str(folder / "network.pt")  # type: ignore[assignment]  # the export goes beside it
        written = model.export(format=form, imgsz=image_size, device="cpu", verbose=False, **settings)
    finally:
        network.pt_path = before  # type: ignore[assignment]
    if not written:
        raise StateError("Ultralytics' exporter wrote no file")
    return Path(written)
