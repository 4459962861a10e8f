"""Exported models answer as the eager one does."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from dualvit.yolo import YOLO

ort = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector on disk, so that export has a place for its files."""
    path = tmp_path_factory.mktemp("export") / "n.safetensors"
    YOLO("yolov8n-dualvit.yaml").save_weights(path, half=False)
    return path


@pytest.mark.slow
def test_onnx_with_dynamic_batch_and_size(model):
    file = YOLO(model).export(format="onnx", imgsz=64, dynamic=True, device="cpu", simplify=False)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    eager = YOLO(model).model.float().eval()
    for batch, height, width in ((1, 64, 64), (2, 64, 96), (1, 128, 32), (3, 160, 96)):
        x = torch.rand(batch, 3, height, width)
        with torch.no_grad():
            expected = eager(x)[0].numpy()
        (out,) = session.run(None, {"images": x.numpy()})
        np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_torchscript(model):
    file = YOLO(model).export(format="torchscript", imgsz=64, device="cpu")
    traced = torch.jit.load(file)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = YOLO(model).model.float().eval()(x)[0]
        out = traced(x)
    out = out[0] if isinstance(out, tuple | list) else out
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-3)


QUIET = """
import sys
import numpy
from dualvit.yolo import YOLO
folder = YOLO(sys.argv[1]).export(format="openvino", imgsz=64, device="cpu")
YOLO(folder, task="detect").predict(numpy.zeros((64, 64, 3), "uint8"), imgsz=64, device="cpu", verbose=False)
"""


@pytest.mark.slow
def test_a_runtime_of_ultralytics_tells_nobody(model, tmp_path):
    pytest.importorskip("openvino")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    kept.pop("CI", None)  # there, OpenVINO would be silent by itself
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(model, tmp_path / "n.safetensors")
    subprocess.run(
        [sys.executable, "-c", QUIET, "n.safetensors"], cwd=tmp_path, env={**kept, "HOME": str(home)}, check=True,
        capture_output=True,
    )  # fmt: skip
    assert [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()] == []
