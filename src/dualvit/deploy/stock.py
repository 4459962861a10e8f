"""What is read off an exported file before it is opened: the form of its input, and whose metadata it has."""

import ast
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvit.deploy.metadata import KEY, LARGEST_JSON, Metadata, from_json, read_metadata
from dualvit.deploy.runtimes import EXTRA, import_openvino
from dualvit.errors import InputError, MissingExtraError, line_of
from dualvit.files import read_yaml
from dualvit.stored import check_classes


@dataclass(frozen=True)
class InputForm:
    """The input of an exported network.

    Attributes:
        dynamic_batch, dynamic_size: Whether the batch, and height and width, are free.
        kind: numpy's name of its numbers: float32 or float16.
        said: The metadata of an ONNX file, or of the metadata.yaml beside an OpenVINO file.
    """

    dynamic_batch: bool
    dynamic_size: bool
    kind: str
    said: Mapping[str, Any]


def form_of(file: Path) -> InputForm:
    """Return the form of a file's input.

    Raises:
        ModuleNotFoundError: the library that reads the file is not installed.
        ValueError: it is damaged, or has no single input of pictures.
    """
    try:
        return _onnx_form(file) if file.suffix == ".onnx" else _openvino_form(file)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{file} needs {error.name}; install dualvit[{EXTRA}]") from None
    except InputError:
        raise
    except Exception as error:  # each library has kinds of its own
        raise InputError(f"cannot read {file}: {line_of(error, 160)}; export it anew") from None


def _onnx_form(file: Path) -> InputForm:
    onnx = importlib.import_module("onnx")
    model = onnx.load(file, load_external_data=False)
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
    tensor = inputs[0].type.tensor_type if len(inputs) == 1 else None
    free = [not dim.HasField("dim_value") for dim in tensor.shape.dim] if tensor is not None else []
    channels = tensor.shape.dim[1].dim_value if tensor is not None and len(free) == 4 else 0  # 0: free
    if tensor is None or len(free) != 4 or channels not in (0, 3) or tensor.elem_type not in kinds:
        raise InputError(f"{file} does not take a batch of pictures (B, 3, H, W); give another file")
    if not free[0] and tensor.shape.dim[0].dim_value != 1:
        raise InputError(f"{file} takes {tensor.shape.dim[0].dim_value} pictures at once; export it for one, or any")
    said = {entry.key: entry.value for entry in model.metadata_props}
    return InputForm(free[0], free[2] and free[3], kinds[tensor.elem_type], said)


def _openvino_form(file: Path) -> InputForm:
    model = import_openvino().Core().read_model(file)
    shape = model.inputs[0].partial_shape
    kinds = {"f32": "float32", "f16": "float16"}
    kind = model.inputs[0].get_element_type().get_type_name()
    channels = 3 if len(shape) != 4 or shape[1].is_dynamic else shape[1].get_length()
    if len(model.inputs) != 1 or len(shape) != 4 or channels != 3 or kind not in kinds:
        raise InputError(f"{file} does not take a batch of pictures (B, 3, H, W); give another file")
    if shape[0].is_static and shape[0].get_length() != 1:
        raise InputError(f"{file} takes {shape[0].get_length()} pictures at once; export it for one, or any")
    beside = file.with_name("metadata.yaml")
    said = read_yaml(beside) if beside.is_file() else {}
    own = {KEY: "rt_info"} if model.has_rt_info([KEY]) else {}
    return InputForm(shape[0].is_dynamic, shape[2].is_dynamic and shape[3].is_dynamic, kinds[kind], {**said, **own})


def about_file(file: Path, form: InputForm) -> Metadata:
    """Return what an exported file says of itself: by `dualvit export`, or by Ultralytics' exporter.

    Raises:
        ValueError: it says nothing that can be used.
    """
    if KEY in form.said:
        about = from_json(form.said[KEY], file) if file.suffix == ".onnx" else read_metadata(file)
    elif "names" in form.said and "task" in form.said:
        about = _of_ultralytics(file, form)
    else:
        raise InputError(f"{file} does not say what its outputs mean; write it with dualvit export")
    if about.task == "features":
        raise InputError(f"{file} holds a backbone, which answers with maps; export a model with a head")
    return about


def _of_ultralytics(file: Path, form: InputForm) -> Metadata:
    """Ultralytics writes Python's text of each value."""
    said = {key: _plain(value) for key, value in form.said.items() if key in ("names", "imgsz", "stride", "end2end")}
    names: Any = said.get("names")
    size: Any = said.get("imgsz")
    task: Any = str(form.said["task"])
    size = (size, size) if isinstance(size, int) else size
    if task not in ("classify", "detect", "segment"):
        raise InputError(f"{file} is a model for {task[:20]}; dualvit yolo {task[:20]} predict takes it")
    right = isinstance(names, dict) and sorted(names) == list(range(len(names))) and isinstance(size, list | tuple)
    if not right or len(size) != 2 or not all(type(side) is int and 0 < side <= 65536 for side in size):
        raise InputError(f"{file} has metadata of Ultralytics that are damaged; export it anew")
    classes = tuple(str(names[label]) for label in range(len(names)))
    check_classes(classes, f"classes of {file}")
    half: Any = "fp16" if form.kind == "float16" else "fp32"
    if task == "classify":
        return Metadata(file.stem, task, classes, tuple(size), interpolation="bilinear", head="yolo", precision=half)
    head: Any = "yolo-free" if said.get("end2end") is True else "yolo"
    stride = said.get("stride")
    return Metadata(
        file.stem, task, classes, tuple(size), resize="letterbox", head=head, precision=half,
        stride=stride if type(stride) is int and 0 < stride <= 1024 else 32,
        dynamic=form.dynamic_batch and form.dynamic_size,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """A value that Ultralytics wrote as text; what is no plain value stays text."""
    if not isinstance(value, str) or len(value) > LARGEST_JSON:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
