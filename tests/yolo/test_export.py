"""Exported models answer as the eager one does."""

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
