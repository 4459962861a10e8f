"""The explanation inside the file: two outputs beside those of a YOLO, computed in the same forward pass.

    evidence   (B, boxes, H/8, W/8)  where each of the surest boxes comes from: shares that sum to 1
    anchors    (B, boxes)            which column of the first output, (B, 4 + classes + ..., N), each of them is

Hooks compute both, on the network in PyTorch and in each graph that is traced from it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.errors import InputError
from dualvit.explain.attention import network_of
from dualvit.explain.evidence import Read, rollout, watch

BOXES = 20
STRIDES = (8, 16, 32)
TASKS = ("detect", "segment", "pose")
FORMATS = ("onnx", "openvino", "torchscript", "engine", "coreml")
OUTPUTS = ("evidence", "anchors")


@contextmanager
def evidenced(model: nn.Module, boxes: int = BOXES) -> Iterator[None]:
    """Within it, the outputs of a YOLO's network end in evidence and anchors; the others stay, bit for bit.

    A copy that is made within keeps doing so.

    Args:
        model: Ultralytics' network, in evaluation mode.
        boxes: How many.

    Raises:
        ValueError: the model has no semantics, another task than `TASKS`, other strides, or a head without NMS.

    Example:
        >>> from dualvit.yolo import YOLO
        >>> network = YOLO("yolov8n-dualvit.yaml").model.eval()
        >>> with evidenced(network, boxes=5), torch.no_grad():
        ...     *_, evidence, anchors = network(torch.rand(1, 3, 64, 96))
        >>> evidence.shape, anchors.shape
        (torch.Size([1, 5, 8, 12]), torch.Size([1, 5]))
    """
    require_dense(model, boxes)
    network: Any = network_of(model)
    head: Any = model.model[-1]  # type: ignore[index]
    classes, seed = int(head.nc), network.seed
    reads: list[Read] = []

    def end(_: nn.Module, given: tuple[Any, ...], out: Any) -> Any:
        dense = out
        while not isinstance(dense, Tensor):
            dense = dense[0]
        size = given[0].shape[2:]
        anchors = surest(dense[:, 4 : 4 + classes], size, boxes)
        found = rollout(reads, corners(dense, anchors), (size[0], size[1]), seed), anchors
        return (out, *found) if isinstance(out, Tensor) else (*out, *found)

    handles = [*watch(network, reads), model.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def require_dense(model: nn.Module, boxes: int) -> None:
    """Refuse a model whose boxes have no evidence here.

    Raises:
        ValueError: see `evidenced`.
    """
    head: Any = model.model[-1]  # type: ignore[index]
    task = getattr(model, "task", None) or "detect"
    if task not in TASKS:
        raise InputError(f"evidence is of boxes, and the task is {task}; it is for {', '.join(TASKS)}")
    strides = tuple(int(stride) for stride in getattr(head, "stride", ()))
    if strides != STRIDES:
        raise InputError(f"evidence is of boxes at strides 8, 16 and 32, and the head has {strides}; leave it out")
    if getattr(head, "end2end", False):
        raise InputError("evidence is of boxes before NMS, and this head has none; give nms=None, or leave it out")
    if not 1 <= boxes <= 1000:
        raise InputError(f"evidence is for 1 to 1000 boxes, and {boxes} were asked for")


def surest(scores: Tensor, size: Any, boxes: int) -> Tensor:
    """Return the columns of the surest boxes that no neighbour beats: (B, classes, N) to (B, boxes), surest first.

    If there are fewer such boxes, the others follow.
    """
    best = scores.amax(1)  # (B, N)
    first, around = 0, []
    for stride in STRIDES:
        rows, columns = size[0] // stride, size[1] // stride
        own = best[:, first : first + rows * columns].unflatten(1, (1, rows, columns))
        around.append(F.max_pool2d(own, 3, stride=1, padding=1).flatten(1))
        first = first + rows * columns
    beaten = best < torch.cat(around, 1)
    return (best - beaten.to(best)).topk(boxes, dim=1).indices


def corners(dense: Tensor, anchors: Tensor) -> Tensor:
    """Return boxes by their columns: (B, 4 + ..., N) and (B, boxes) to (B, boxes, 4), x1 y1 x2 y2."""
    # All rows are gathered, since OpenVINO loses a cut in front of it.
    own = dense.gather(2, anchors.unsqueeze(1).expand(-1, dense.shape[1], -1))  # (B, 4 + ..., boxes)
    centre, extent = own[:, :4].transpose(1, 2).chunk(2, dim=2)  # (B, boxes, 2)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=2)


def name_outputs(file: Path, boxes: int, dynamic: bool) -> None:
    """Call the last two outputs of an exported file `evidence` and `anchors`, and note how many boxes they are for.

    Args:
        file: An ONNX file, or a folder of OpenVINO; others have no names.
        boxes: How many.
        dynamic: Whether batch and size are free.
    """
    if file.suffix == ".onnx":
        _name_onnx(file, boxes, dynamic)
    elif file.is_dir() and (found := sorted(file.glob("*.xml"))):
        _name_openvino(found[0], boxes)


def _name_onnx(file: Path, boxes: int, dynamic: bool) -> None:
    import onnx

    model = onnx.load(file)
    graph, names = model.graph, {}
    for output, name in zip(list(graph.output)[-2:], OUTPUTS, strict=True):
        names[output.name] = output.name = name
        dims = output.type.tensor_type.shape.dim
        if dynamic:
            for dim, symbol in zip(dims, ("batch", "", "evidence_height", "evidence_width"), strict=False):
                if symbol:
                    dim.dim_param = symbol
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    entry = model.metadata_props.add()
    entry.key, entry.value = "evidence", str(boxes)
    onnx.save(model, file)


def _name_openvino(file: Path, boxes: int) -> None:
    import openvino  # the exporter has imported it

    model = openvino.Core().read_model(file)
    for output, name in zip(model.outputs[-2:], OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    model.set_rt_info(boxes, ["evidence"])
    part = file.with_name(f"{file.stem}.part.xml")
    openvino.save_model(model, part, compress_to_fp16=False)  # as they are: half stays half
    del model, output
    for suffix in (".bin", ".xml"):
        part.with_suffix(suffix).replace(file.with_suffix(suffix))


def require_format(settings: Mapping[str, Any]) -> None:
    """Refuse an export that would lose the evidence.

    Raises:
        ValueError: another format than `FORMATS`, or NMS in the graph.
    """
    name = str(settings.get("format") or "torchscript").lower()
    if name not in FORMATS:
        raise InputError(f"evidence is kept by {', '.join(FORMATS)}, and the format is {name}; leave evidence out")
    if settings.get("nms"):
        raise InputError("evidence is of boxes before NMS, and nms=True leaves those after it; leave one of them out")
