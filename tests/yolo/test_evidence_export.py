"""The explanation inside the file: outputs of an export that PyTorch gives too, and that change no other output."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dualvit.deploy.runtimes import import_openvino
from dualvit.errors import InputError
from dualvit.yolo import YOLO
from dualvit.yolo.evidence import evidenced, surest

IMAGES = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A segmentation model on disk, so that export has a place for its files."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("evidence") / "n.safetensors"
    model = YOLO("yolov8n-dualvit-seg.yaml")
    for branch in model.model.model[-1].cv3:  # new weights give all boxes nearly the same score, and ties no order
        torch.nn.init.normal_(branch[-1].weight)
        torch.nn.init.zeros_(branch[-1].bias)
    model.save_weights(path, half=False)
    return path


@pytest.fixture(scope="module")
def expected(stored):
    network = YOLO(stored).model.float().eval()
    with torch.no_grad(), evidenced(network, 7):
        out = network(IMAGES)
    return network, out


def dense(out):
    while not isinstance(out, torch.Tensor):
        out = out[0]
    return out


def compare(run, expected):
    """The file's four outputs are PyTorch's."""
    boxes, prototypes, evidence, anchors = run
    np.testing.assert_allclose(boxes, dense(expected).numpy(), rtol=1e-3, atol=1e-3)
    assert (anchors == expected[-1].numpy()).all() and prototypes.shape == (2, 32, 24, 16)
    assert np.abs(evidence - expected[-2].numpy()).max() < 1e-3 * float(expected[-2].max())


def test_no_bit_changes_and_no_hook_stays(expected):
    network, out = expected
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    with torch.no_grad():
        plain = network(IMAGES)
    assert torch.equal(dense(plain), dense(out))
    evidence, anchors = out[-2:]
    assert evidence.shape == (2, 7, 12, 8) and anchors.shape == (2, 7)
    torch.testing.assert_close(evidence.sum((2, 3)), torch.ones(2, 7))


def test_onnx_with_dynamic_batch_and_size(stored, expected, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    own = Path(shutil.copy(stored, tmp_path))
    file = YOLO(own).export(format="onnx", imgsz=64, dynamic=True, simplify=False, device="cpu", evidence=7)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["output0", "output1", "evidence", "anchors"]
    assert session.get_modelmeta().custom_metadata_map["evidence"] == "7"
    compare(session.run(None, {"images": IMAGES.numpy()}), expected[1])


@pytest.mark.slow
def test_openvino(stored, expected, tmp_path):
    pytest.importorskip("openvino")
    openvino = import_openvino()
    own = Path(shutil.copy(stored, tmp_path))
    folder = YOLO(own).export(format="openvino", imgsz=64, dynamic=True, device="cpu", evidence=7)
    assert sorted(file.suffix for file in Path(folder).iterdir()) == [".bin", ".xml", ".yaml"]
    model = openvino.Core().compile_model(next(Path(folder).glob("*.xml")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [one.any_name for one in model.outputs[-2:]] == ["evidence", "anchors"]
    compare(list(model([IMAGES.numpy()]).values()), expected[1])


def test_the_surest_are_no_neighbours():
    scores = torch.zeros(1, 2, 64 + 16 + 4)
    scores[0, 1, 20], scores[0, 0, 21], scores[0, 0, 44], scores[0, 1, 64] = 0.9, 0.8, 0.5, 0.7
    assert surest(scores, (64, 64), 3).tolist() == [[20, 64, 44]]


def test_what_has_none_is_one_line():
    with pytest.raises(InputError, match="has no semantics of Dual-ViT"):
        YOLO("yolov8n.yaml").export(format="onnx", evidence=True)
    with pytest.raises(InputError, match=r"^evidence is of boxes, and the task is classify"):
        YOLO("yolov8n-dualvit-cls.yaml").export(format="onnx", evidence=True)
    model = YOLO("yolov8n-dualvit.yaml")
    with pytest.raises(InputError, match=r"and the format is ncnn; leave evidence out$"):
        model.export(format="ncnn", evidence=True)
    with pytest.raises(InputError, match="before NMS, and nms=True"):
        model.export(format="onnx", evidence=True, nms=True)
    with pytest.raises(InputError, match="for 1 to 1000 boxes, and 0 were asked for"):
        model.export(format="onnx", evidence=0)
