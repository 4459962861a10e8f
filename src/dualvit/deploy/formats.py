"""The files of a network: ONNX, OpenVINO, TorchScript and torch.export, each with its metadata, and how it is run."""

import copy
import importlib
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dualvit.deploy.metadata import EXTRA_FILE, KEY, Metadata
from dualvit.deploy.runtimes import (
    Array,
    OnnxRuntime,
    OpenVino,
    Run,
    import_openvino,
    with_matrix_pools,
    with_spare_boxes,
)
from dualvit.deploy.sources import Source, export_yolo
from dualvit.fast.fuse import fuse

OPSET = 18  # 17 brought LayerNormalization
LOUD = ("torch", "ultralytics", "onnxslim", "openvino", "nncf")  # loggers, with those below them
EXAMPLE = (2, 3, 96, 128)  # that a network is traced with, if its sizes are free


class Flat(nn.Module):
    """A network whose outputs are a tuple of tensors, or the one tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        out = self.network(image)
        if isinstance(out, dict):
            out = tuple(out.values())
        return (
            tuple(out) if isinstance(out, list | tuple) and len(out) > 1 else out[0] if isinstance(out, list) else out
        )


def prepared(source: Source) -> tuple[nn.Module, Tensor]:
    """Return the network as files have it, fused and with the forms that exporters know, and an example of its input.

    Both are of no user's: the network is a copy.
    """
    network = Flat(fuse(copy.deepcopy(source.network))).eval()
    return with_matrix_pools(with_spare_boxes(network)), example(source)


def example(source: Source) -> Tensor:
    """Return an input to trace a network with."""
    meta = source.metadata
    if not meta.dynamic:
        return torch.rand(1, 3, *meta.image_size)
    return torch.rand(source.shapes[0] if meta.head == "torchvision" else EXAMPLE)


def axes(metadata: Metadata) -> dict[str, dict[int, str]] | None:
    """Return the dynamic axes of an ONNX file, by the names of its inputs and outputs; None for fixed shapes."""
    if not metadata.dynamic:
        return None
    if metadata.head == "torchvision":
        found = {name: {0: "boxes"} for name in metadata.outputs}
        if "masks" in found:
            found["masks"] = {0: "boxes", 2: "height", 3: "width"}
        return {"image": {2: "height", 3: "width"}, **found}
    free: dict[str, dict[int, str]] = {"image": {0: "batch", 2: "height", 3: "width"}}
    for name in metadata.outputs:
        free[name] = {0: "batch"}
        if metadata.task == "semantic":
            free[name] |= {2: "height", 3: "width"}
        elif name.startswith("stride"):
            free[name] |= {2: f"{name}_rows", 3: f"{name}_columns"}
    return free


def write_onnx(source: Source, folder: Path) -> Path:
    """Write simplified ONNX with free batch, height and width; return the file."""
    onnx, onnxslim = importlib.import_module("onnx"), importlib.import_module("onnxslim")
    file = folder / "network.onnx"
    if source.yolo is not None:
        from_yolo(source, "onnx", folder, file)
        model = onnx.load(file)
    else:
        network, image = prepared(source)
        with torch.no_grad(), quiet():
            torch.onnx.export(
                network, (image,), str(file), dynamo=False, opset_version=OPSET, input_names=["image"],
                output_names=list(source.metadata.outputs), dynamic_axes=axes(source.metadata),
            )  # fmt: skip
        model = onnxslim.slim(onnx.load(file))
        shape_empties(model.graph)
    known = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, known | {KEY: source.metadata.to_json()})
    onnx.save(model, file)
    return file


def shape_empties(graph: Any, inner: bool = False) -> None:
    """Make the empty constants in branches of an ONNX graph by an operation, in place.

    They are what torchvision's detectors answer of a picture without boxes. ONNX may write a number with no dimensions
    as one with the dimension 0, so OpenVINO reads an empty constant as one number, which nobody has set.
    """
    onnx = importlib.import_module("onnx")
    for place, node in reversed(list(enumerate(graph.node))):
        for branch in [one.g for one in node.attribute if one.HasField("g")]:
            shape_empties(branch, inner=True)
        held = node.attribute[0].t if node.op_type == "Constant" and node.attribute else None
        if inner and held is not None and list(held.dims) == [0]:
            name, size = node.output[0], onnx.numpy_helper.from_array(np.zeros(1, np.int64))
            value = onnx.helper.make_tensor("value", held.data_type, [1], [0])
            node.CopyFrom(onnx.helper.make_node("ConstantOfShape", [f"{name}_size"], [name], value=value))
            graph.node.insert(place, onnx.helper.make_node("Constant", [], [f"{name}_size"], value=size))


def write_openvino(source: Source, folder: Path) -> Path:
    """Write OpenVINO's .xml and .bin, with float32 weights; return the .xml."""
    openvino, target = import_openvino(), folder / "network.xml"
    if source.yolo is not None:
        place = folder / "ultralytics"
        place.mkdir()
        from_yolo(source, "openvino", folder, place)
        model = openvino.Core().read_model(next(place.glob("*.xml")))
    else:
        model = openvino.Core().read_model(write_onnx(source, folder))
    model.set_rt_info(source.metadata.to_json(), [KEY])
    openvino.save_model(model, target, compress_to_fp16=False)
    return target


def write_torchscript(source: Source, folder: Path) -> Path:
    """Write a traced network; return the file."""
    file, extra = folder / "network.torchscript", {EXTRA_FILE: source.metadata.to_json()}
    if source.yolo is not None:
        from_yolo(source, "torchscript", folder, file)
        theirs = {"config.txt": ""}  # Ultralytics' own metadata
        with quiet():
            traced = torch.jit.load(file, map_location="cpu", _extra_files=theirs)
            torch.jit.save(traced, str(file), _extra_files=extra | theirs)
        return file
    network, image = prepared(source)
    with torch.no_grad(), quiet():
        traced = torch.jit.trace(network, image, check_trace=False)
        torch.jit.save(traced, str(file), _extra_files=extra)
    return file


def write_torch_export(source: Source, folder: Path) -> Path:
    """Write the graph of torch.export with free batch, height and width; return the file."""
    network, file = Flat(copy.deepcopy(source.network)).eval(), folder / "network.pt2"
    image = example(source)
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},) if source.metadata.dynamic else None
    with torch.no_grad(), quiet():
        program = torch.export.export(network, (image,), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, file, extra_files={EXTRA_FILE: source.metadata.to_json()})
    return file


def from_yolo(source: Source, form: str, folder: Path, target: Path) -> None:
    """Let Ultralytics' exporter write a file, or a folder, and put it in its place."""
    with quiet():
        written = export_yolo(source, form, folder)
    if target.is_dir():
        target.rmdir()
    written.replace(target)


class quiet(warnings.catch_warnings):  # it is used as a function
    """Within it, a tracer's warnings on shapes that it keeps as constants are not shown: the answers are compared.

    Errors of the exporters' loggers are shown, and all that others say.
    """

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        self.out = redirect_stdout(StringIO())
        self.out.__enter__()
        known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOUD]
        self.levels = {one: one.level for one in map(logging.getLogger, [*LOUD, *known])}
        for one, level in self.levels.items():
            one.setLevel(max(level, logging.ERROR))

    def __exit__(self, *error: Any) -> None:
        for one, level in self.levels.items():
            one.setLevel(level)
        self.out.__exit__(*error)
        super().__exit__(*error)


WRITE: Mapping[str, Callable[[Source, Path], Path]] = {
    "onnx": write_onnx, "openvino": write_openvino, "torchscript": write_torchscript,
    "torch-export": write_torch_export, "tensorrt": write_onnx,
}  # fmt: skip


# ---- how each is run, with the precision that runs -------------------------------------------------------------------


def open_onnx(file: Path, threads: int) -> tuple[Run, str, str]:
    """Open ONNX in onnxruntime; return how to run it, the runtime's name, and the precision of its weights."""
    onnx, onnxruntime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    weights = {one.data_type for one in onnx.load(file).graph.initializer}
    floats = {"float": "float32", "float16": "float16", "bfloat16": "bfloat16", "int8": "int8"}
    names = {onnx.TensorProto.DataType.Name(kind).lower() for kind in weights}
    said = " and ".join(floats[name] for name in floats if name in names) or "no"
    return OnnxRuntime(file, threads), f"onnxruntime {onnxruntime.__version__}", f"{said} weights"


def open_openvino(file: Path, threads: int) -> tuple[Run, str, str]:
    """Open a file in OpenVINO, held to float32; return how to run it, its name, and the precision that ran."""
    runtime = OpenVino(file, threads)
    version = str(import_openvino().__version__).split("-")[0]
    return runtime, f"OpenVINO {version}", precision_of(runtime)


PRODUCTS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "ScaledDotProductAttention", "Gemm")


def precision_of(runtime: Any) -> str:
    """Return the precision in which OpenVINO computes the products of a compiled model, by its own account."""
    compiled = runtime.request.get_compiled_model()
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    ran = set()
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        if "layerType" in about and about["layerType"].astype(str) in PRODUCTS:
            ran.add(about["runtimePrecision"].astype(str))
    return f"pinned {hint}, products in {' and '.join(sorted(ran)) or hint}"


def open_torch(file: Path, threads: int) -> tuple[Run, str, str]:
    """Open a traced or an exported graph in PyTorch."""
    with quiet():
        traced = file.suffix == ".torchscript"
        program: Any = torch.jit.load(file, map_location="cpu") if traced else torch.export.load(file).module()

    def run(images: Array) -> list[Array]:
        with torch.no_grad():
            out = program(torch.from_numpy(images))
        return [one.numpy() for one in (out if isinstance(out, list | tuple) else [out])]

    dtypes = {str(value.dtype).removeprefix("torch.") for value in program.parameters()}
    return run, f"torch {torch.__version__.split('+')[0]}", " and ".join(sorted(dtypes)) or "float32"


def nodes_of(file: Path) -> dict[str, int]:
    """Return how many nodes of each operator type an ONNX file has, by name."""
    onnx = importlib.import_module("onnx")
    types = [node.op_type for node in onnx.load(file, load_external_data=False).graph.node]
    names, counts = np.unique(types, return_counts=True)
    return dict(zip(map(str, names), map(int, counts), strict=True))
