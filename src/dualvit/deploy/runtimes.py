"""What runs an exported network on the CPU: onnxruntime and OpenVINO, from one ONNX file, by the same calls.

    export_onnx(network, image, file)             torch's exporter, for pictures of this size
    run = open_runtime("openvino", file, threads=2)
    run(image.numpy())                            arrays, in the order of the network's outputs

Both compute in float32, as the network was scored. Left to itself, OpenVINO takes bfloat16 on CPUs that have it.
"""

import copy
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from dualvit.cores import keep_cores
from dualvit.errors import InputError, MissingExtraError
from dualvit.telemetry import without_telemetry

Array = NDArray[Any]
Run = Callable[[Array], list[Array]]
EXTRA = "export"  # brings all of these
NEEDS: Mapping[str, tuple[str, ...]] = {  # modules of each runtime; the first two make the file
    "onnxruntime": ("onnx", "onnxslim", "onnxruntime"),
    "openvino": ("onnx", "onnxslim", "openvino"),
}
OPSET = 17
TOLERANCE = 1e-3  # see `disagreement`


def missing(runtime: str) -> str | None:
    """Return the first module that a runtime needs and that is not installed; None if all are there."""
    return next((name for name in NEEDS[runtime] if importlib.util.find_spec(name) is None), None)


def versions(runtimes: Iterable[str]) -> dict[str, str]:
    """Return the versions of runtimes that are installed, for what keeps a measurement."""
    modules = {"openvino": import_openvino}
    return {name: str(modules.get(name, partial(importlib.import_module, name))().__version__) for name in runtimes}


def open_runtime(runtime: str, file: Path, threads: int, profile: bool = False) -> Run:
    """Open an ONNX file in a runtime.

    Args:
        runtime: A key of `NEEDS`.
        file: Of `export_onnx`, or of another exporter; one input.
        threads: That a pass works on.
        profile: Keep the time of each node, which makes a pass slower. See `dualvit.bench.nodes`.

    Raises:
        ModuleNotFoundError: the runtime is not installed; the message names the extra.
        ValueError: it cannot open the file.
    """
    if (name := missing(runtime)) is not None:
        raise MissingExtraError(f"{runtime} needs {name}; install dualvit[{EXTRA}]")
    try:
        return _OPEN[runtime](file, threads, profile)
    except Exception as error:  # each library has kinds of its own
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{runtime} cannot open {file}: {line}; export it anew") from None


class OnnxRuntime:
    """An ONNX file in onnxruntime.

    Attributes:
        session: Of onnxruntime.
    """

    def __init__(self, file: Path, threads: int, profile: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Between passes its threads would spin, on the cores that others are timed on.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # errors
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, str(file.with_suffix(""))
        providers = ["CPUExecutionProvider"]  # and no second try, which would print of the first
        self.session = onnxruntime.InferenceSession(file, options, providers=providers, enable_fallback=0)
        self.name = self.session.get_inputs()[0].name

    def __call__(self, image: Array) -> list[Array]:
        return list(self.session.run(None, {self.name: image}))


class OpenVino:
    """An ONNX file in OpenVINO, set for the latency of single pictures.

    Attributes:
        request: Of OpenVINO.
    """

    def __init__(self, file: Path, threads: int, profile: bool = False) -> None:
        openvino = import_openvino()
        properties = openvino.properties
        settings = {
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.hint.inference_precision: openvino.Type.f32,
            properties.inference_num_threads: threads,
            properties.enable_profiling: profile,
        }
        self.request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()

    def __call__(self, image: Array) -> list[Array]:
        return [np.asarray(value) for value in self.request.infer([image], share_inputs=True).values()]


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would write to the home folder and call a server; see `cores`."""
    with without_telemetry():
        openvino = importlib.import_module("openvino")
        importlib.import_module("openvino.properties.hint")
    keep_cores()
    return openvino


_OPEN: Mapping[str, Callable[[Path, int, bool], Run]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def export_onnx(network: nn.Module, image: Tensor, file: Path) -> None:
    """Write a network as ONNX, for pictures of the size and the batch of `image`.

    Args:
        network: In evaluation mode; images to a tensor, or to nested lists, tuples or dicts of tensors.
        image: (B, 3, H, W).
        file: Is written whole.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        with torch.no_grad():
            torch.onnx.export(
                with_matrix_pools(network), (image,), str(part), dynamo=False, input_names=["image"],
                opset_version=OPSET,
            )  # fmt: skip
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


class MatrixPool(nn.Module):
    """Adaptive average pooling (B, C, H, W) to (B, C, rows, columns) as two products.

    ONNX has no adaptive pooling, and torch exports it only if the output's sides divide the input's. The matrices are
    made of the shape inside the graph, so that it can stay free.
    """

    def __init__(self, pool: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        size = pool.output_size
        self.sides = tuple(size) if isinstance(size, list | tuple) else (size, size)

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = (
            means(side, own or side, maps) for side, own in zip(maps.shape[2:], self.sides, strict=True)
        )  # (rows, H), (columns, W)
        return rows @ maps @ columns.T  # (B, C, rows, columns)


def means(side: int, parts: int, like: Tensor) -> Tensor:
    """Weights (parts, side) of the means that adaptive pooling takes along one side.

    Example:
        >>> means(3, 2, torch.zeros(()))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000]])
    """
    pixel = torch.arange(side, device=like.device).unsqueeze(0)  # (1, side)
    part = torch.arange(parts, device=like.device).unsqueeze(1)  # (parts, 1)
    # Rounded up without a negative divisor: ONNX's division of integers drops the fraction, towards zero.
    first, last = part * side // parts, ((part + 1) * side + parts - 1) // parts
    return ((pixel >= first) & (pixel < last)).to(like.dtype) / (last - first)


def with_matrix_pools(network: nn.Module) -> nn.Module:
    """Return the network; if it has adaptive pools to more than one place, a copy with `MatrixPool` in theirs."""
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1), [1, 1])
    ]
    if not names:
        return network
    network = copy.deepcopy(network)
    for name in names:
        network.set_submodule(name, MatrixPool(network.get_submodule(name)))  # type: ignore[arg-type]
    return network


class Spare(nn.Module):
    """A head of boxes, maps (N, C, H, W) to maps (N, ...), that also computes one more box, of zeros, and drops it.

    ONNX writes group norms with a side that the others leave open, and with no boxes that side is unknown.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat([maps, maps.new_zeros(1, *maps.shape[1:])]))
        return out[:-1]


def with_spare_boxes(network: nn.Module) -> nn.Module:
    """Return the network, of which mask heads of torchvision, in place, answer of no boxes in each runtime."""
    for module in network.modules():
        if isinstance(module, RoIHeads) and module.has_mask():
            module.mask_head, module.mask_predictor = Spare(module.mask_head), Spare(module.mask_predictor)
    return network


def flat(value: Any) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for item in items for tensor in flat(item)]


def disagreement(answers: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return how far a runtime's answers are from the expected ones: the largest |difference| / (1 + |expected|).

    A value of 0.001 allows probabilities 0.001, and pixels a thousandth of themselves. Other shapes, or another
    number of outputs, are infinitely far.

    Example:
        >>> disagreement([np.array([3.0, 0.5])], [np.array([3.0, 0.0])])
        0.5
    """
    if [answer.shape for answer in answers] != [one.shape for one in expected]:
        return float("inf")
    far = [np.abs(a - e) / (1 + np.abs(e)) for a, e in zip(answers, expected, strict=True) if e.size]
    worst = max((float(one.max()) for one in far), default=0.0)
    return worst if worst == worst else float("inf")  # NaN
