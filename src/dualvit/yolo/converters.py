"""The formats that Ultralytics converts a trace to, and what each of them needs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dualvit.fast.forms import plain_forms

FREE = ("onnx", "openvino", "torchscript", "engine")  # whose files take batch and size from the graph


def format_of(settings: Mapping[str, Any]) -> str:
    """Return Ultralytics' name of the format that an export has by its settings."""
    return str(settings.get("format") or "torchscript").lower()


def traced_for(settings: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Within it, an export by these settings traces the network in forms that its converter knows."""
    return nullcontext() if format_of(settings) in FREE else plain_forms(bool(settings.get("dynamic")))
