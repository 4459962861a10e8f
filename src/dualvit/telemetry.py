"""What other packages would tell a server unasked: nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def refuse_telemetry() -> None:
    """Let onnxruntime tell nobody, unless the environment says otherwise.

    By itself it notes what it does in the home folder and sends it to a server. It asks for this variable once, when
    it is first imported, by whichever package.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Within it, OpenVINO's telemetry is as if it were not installed: what is imported here takes a stub for good."""
    modules: dict[str, Any] = sys.modules  # None in it stands for what cannot be imported
    name, nothing = "openvino_telemetry", object()
    before = modules.get(name, nothing)
    modules[name] = None
    try:
        yield
    finally:
        if before is nothing:
            del modules[name]
        else:
            modules[name] = before
