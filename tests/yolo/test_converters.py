"""Converted files answer as the network does, and a converter that is missing is one line."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from dualvit.errors import MissingExtraError
from dualvit.yolo import YOLO, converters
from dualvit.yolo.evidence import evidenced
from dualvit.yolo.export import as_exported, tensors

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A segmentation model on disk, so that export has a place for its files."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("converters") / "n.safetensors"
    YOLO("yolov8n-dualvit-seg.yaml").save_weights(path, half=False)
    return path


@pytest.mark.parametrize("form", ["ncnn", "coreml", "paddle", "saved_model"])
def test_a_missing_converter_is_one_line(form, monkeypatch):
    monkeypatch.setattr(converters, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"^format={form} needs packages .*; pip install \S+") as error:
        YOLO("yolov8n-dualvit.yaml").export(format=form)
    assert "\n" not in str(error.value)


def test_formats_with_free_sizes_take_no_other_forms():
    for form in converters.FREE:
        with converters.traced_for({"format": form}):
            traced = torch.jit.trace(lambda x: x.reshape(x.shape[0], -1), IMAGE)
        assert "aten::size" in str(traced.graph)
    with converters.traced_for({"format": "NCNN"}):
        traced = torch.jit.trace(lambda x: x.reshape(x.shape[0], -1), IMAGE)
    assert "aten::size" not in str(traced.graph)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ncnn", "coreml", "paddle", "saved_model"])
def test_a_file_answers_as_the_network_does(form, stored, tmp_path, monkeypatch):
    if missing := [name for name in converters.NEEDS[form] if find_spec(name) is None]:
        pytest.skip(f"{form} needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    np.save(SAMPLE, np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32))  # else it is downloaded
    file = YOLO(Path(shutil.copy(stored, tmp_path))).export(format=form, imgsz=64, device="cpu")
    if form == "coreml":  # which runs on a Mac alone
        spec = pytest.importorskip("coremltools").models.MLModel(file, skip_model_load=True).get_spec()
        shapes = [tuple(one.type.multiArrayType.shape) for one in spec.description.output]
        assert sorted(shapes) == [(1, 32, 16, 16), (1, 116, 84)]
        return
    from ultralytics.nn.autobackend import AutoBackend

    with torch.no_grad():
        expected = tensors(as_exported(YOLO(stored).model.float())(IMAGE))
        answers = AutoBackend(file, device=torch.device("cpu"))(IMAGE)
    for answer, one in zip(answers, expected, strict=True):
        far = (torch.from_numpy(np.array(answer)) - one).abs() / (1 + one.abs())
        assert far.max() < 1e-4
