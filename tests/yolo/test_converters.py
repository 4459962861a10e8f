"""Ultralytics' converters: a missing one is a line, and NCNN's file answers as the network does."""

import numpy as np
import pytest
import torch

from dualvit.errors import MissingExtraError
from dualvit.yolo import YOLO
from dualvit.yolo.converters import NEEDS, format_of, require_converter

ANSWERS = {
    "ncnn": "pip install ncnn pnnx==", "coreml": 'pip install "coremltools>=', "paddle": '"paddlepaddle>=3.0.0,<3.3.0"',
    "saved_model": '"tensorflow<=2.19.0" "onnx2tf<1.29.0"', "pb": '"tensorflow<=2.19.0"',
}  # fmt: skip


@pytest.mark.parametrize("form", NEEDS)
def test_a_missing_converter_is_one_line_that_names_it(form, monkeypatch, tmp_path):
    monkeypatch.setattr("dualvit.yolo.converters.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=f"^format={form} needs packages that are not installed; ") as error:
        YOLO("yolov8n-dualvit.yaml").export(format=form, imgsz=64)
    assert ANSWERS[form] in str(error.value) and "\n" not in str(error.value)


def test_formats_of_the_graph_need_nothing(monkeypatch):
    monkeypatch.setattr("dualvit.yolo.converters.find_spec", lambda name: None)
    for form in ("onnx", "openvino", "torchscript", None):
        require_converter({"format": form})
    assert format_of({}) == "torchscript" and format_of({"format": "NCNN"}) == "ncnn"


@pytest.mark.slow
def test_a_file_of_ncnn_answers_as_the_network(tmp_path, monkeypatch):
    for name in ("ncnn", "pnnx"):
        pytest.importorskip(name, reason=f"needs {name}")
    from ultralytics.nn.autobackend import AutoBackend

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    file = YOLO("yolov8n-dualvit-seg.yaml").save_weights(tmp_path / "n.safetensors", half=False)
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    network = YOLO(file).model.float().eval()
    with torch.no_grad():
        out = network(image)
    while not isinstance(out, torch.Tensor):
        out = out[0]
    folder = YOLO(file).export(format="ncnn", imgsz=(96, 128), device="cpu")
    answers = [torch.from_numpy(np.array(one)) for one in AutoBackend(folder, device=torch.device("cpu"))(image)]
    assert answers[0].shape == out.shape
    assert float(((answers[0] - out).abs() / (1 + out.abs())).max()) < 1e-3
    assert "Interp" in (tmp_path / "n_ncnn_model" / "model.ncnn.param").read_text()  # of the neck, by nearest
    assert "resize_type=3" not in (tmp_path / "n_ncnn_model" / "model.ncnn.param").read_text()
