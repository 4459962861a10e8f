"""The formats that Ultralytics converts a trace to, and what each of them needs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

from dualvit.errors import MissingExtraError
from dualvit.fast.forms import plain_forms

FREE = ("onnx", "openvino", "torchscript", "engine")  # whose files take batch and size from the graph
TENSORFLOW = {
    "tensorflow": "tensorflow<=2.19.0", "onnx2tf": "onnx2tf<1.29.0", "tf_keras": "tf_keras<=2.19.0",
    "sng4onnx": "sng4onnx", "onnx_graphsurgeon": "onnx_graphsurgeon", "ai_edge_litert": "ai-edge-litert",
}  # fmt: skip
NEEDS: Mapping[str, Mapping[str, str]] = {  # modules, and what to install for each
    "ncnn": {"ncnn": "ncnn", "pnnx": "pnnx==20260526"},
    "coreml": {"coremltools": "coremltools>=9.0"},
    "paddle": {"paddle": "paddlepaddle>=3.0.0,<3.3.0", "x2paddle": "x2paddle", "six": "six"},
    "saved_model": TENSORFLOW, "pb": TENSORFLOW,
}  # fmt: skip


def format_of(settings: Mapping[str, Any]) -> str:
    """Return Ultralytics' name of the format that an export has by its settings."""
    return str(settings.get("format") or "torchscript").lower()


def traced_for(settings: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Within it, an export by these settings traces the network in forms that its converter knows."""
    return nullcontext() if format_of(settings) in FREE else plain_forms(bool(settings.get("dynamic")))


def require_converter(settings: Mapping[str, Any]) -> None:
    """Refuse an export whose converter is not installed; none is installed behind a user's back.

    Raises:
        ModuleNotFoundError: a package is missing, and how to install it.
    """
    form = format_of(settings)
    missing = [wanted for name, wanted in NEEDS.get(form, {}).items() if find_spec(name) is None]
    if missing:
        quoted = " ".join(f'"{one}"' if "<" in one or ">" in one else one for one in missing)
        raise MissingExtraError(f"format={form} needs packages that are not installed; pip install {quoted}")
