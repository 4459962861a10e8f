"""Exported networks answer as the network does, or nothing is written."""

import dataclasses
import logging

import pytest
import torch
from torch.nn import functional as F

import dualvit
from dualvit.deploy import tensorrt
from dualvit.deploy.export import export, require
from dualvit.deploy.formats import quiet
from dualvit.deploy.metadata import Metadata, read_metadata
from dualvit.deploy.parity import Question, compare, gap_above, paired
from dualvit.deploy.sources import Source, _rows, awaken, open_source
from dualvit.errors import InputError, MissingFileError, StateError
from dualvit.fast.exact import cubic_weights

pytest.importorskip("onnxslim", reason="needs dualvit[export]")
pytest.importorskip("onnxruntime", reason="needs dualvit[export]")
SMALL = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 1, 1, 1), "layer_scale": 0.5}
BOTH = (
    "Add Cast Concat Conv Div Equal Erf Expand Gather Gemm LayerNormalization MatMul Min Mod Mul Neg Pad Range "
    "ReduceMax ReduceMean Relu Reshape Shape Slice Softmax Sqrt Sub Transpose Unsqueeze Where"
)
OPERATORS = {  # of the exported graphs: each runtime must know a new one
    "dualvit_n": {*BOTH.split(), "Clip", "Flatten", "Max", "Sigmoid"},
    "dualvit_s": {*BOTH.split(), "Abs", "AveragePool", "ConstantOfShape", "Less", "LessOrEqual", "Reciprocal"},
}


def small(name):
    network = dualvit.create_model(name, num_classes=5, **SMALL).eval()
    awaken(network)
    metadata = Metadata(name, "classify", tuple("abcde"), (64, 64), outputs=("logits",), version="1")
    return Source(network, metadata)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 11])
def test_bicubic_as_products(size):
    values = torch.randn(8)
    expected = F.interpolate(values[None, None, :, None], (size, 1), mode="bicubic", align_corners=False)
    # Along a side of one value the kernel's weights sum to 1, so that the other side alone decides.
    torch.testing.assert_close(cubic_weights(size, values) @ values, expected[0, 0, :, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["dualvit_n", "dualvit_s"])
def test_onnx_of_any_batch_and_size(name, tmp_path):
    result = export(small(name), "onnx", tmp_path / "n.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["n.onnx"] == [file.name for file in result.files]
    assert {row.shape for parity in result.parities for row in parity.rows} == {
        (batch, 3, *size) for batch in (1, 4) for size in ((32, 64), (64, 64), (96, 128))
    }
    assert all(parity.error < 1e-5 for parity in result.parities)
    assert read_metadata(tmp_path / "n.onnx") == result.metadata
    assert result.nodes["LayerNormalization"] > 5 and set(result.nodes) <= OPERATORS[name]


def test_above_the_limit_nothing_is_written(tmp_path):
    with pytest.raises(StateError, match=r"differs from the network in onnxruntime .* nothing was written"):
        export(small("dualvit_n"), "onnx", tmp_path / "n.onnx", limit=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_torchscript(tmp_path):
    result = export(small("dualvit_n"), "torchscript", tmp_path / "n.torchscript")
    assert result.parities[0].error < 1e-5
    assert read_metadata(tmp_path / "n.torchscript") == result.metadata


def test_what_tensorrt_and_triton_are_told(tmp_path):
    result = export(small("dualvit_n"), "tensorrt", tmp_path / "n.onnx")
    assert {file.name for file in result.files} == {"n.onnx", "n.trtexec.sh", "n.config.pbtxt"}
    script = (tmp_path / "n.trtexec.sh").read_text()
    for word in ("--minShapes=image:1x3x32x32", "--optShapes=image:4x3x64x64", "--maxShapes=image:16x3x128x128"):
        assert word in script
    config = (tmp_path / "n.config.pbtxt").read_text()
    assert "dims: [ 3, -1, -1 ]" in config and "dims: [ 5 ]" in config and "max_batch_size: 16" in config
    fixed = dataclasses.replace(result.metadata, dynamic=False)
    assert set(tensorrt.shapes(fixed).values()) == {(1, 3, 64, 64)}


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("onxx", "n.onnx", "unknown format 'onxx'; give one of onnx, openvino"),
        ("onnx", "n.xml", "a file of onnx ends in .onnx"),
    ],
)
def test_mistakes_are_one_line(form, name, said, tmp_path):
    with pytest.raises(InputError, match=said):
        require(form, tmp_path / name)


def test_exporters_are_quiet_and_others_are_not(caplog):
    exporter, other = logging.getLogger("torch.onnx"), logging.getLogger("dualvit.elsewhere")
    before = exporter.level
    with quiet():
        for one in (exporter, logging.getLogger("torch.new_in_here"), other):
            one.warning("a warning of %s", one.name)
        exporter.error("an error")
    assert [record.getMessage() for record in caplog.records] == ["a warning of dualvit.elsewhere", "an error"]
    assert exporter.level == before and logging.getLogger("torch.new_in_here").isEnabledFor(logging.WARNING)


def test_sources_that_are_none():
    with pytest.raises(InputError, match=r"dualvit_n has no weights here.*give --weights FILE"):
        open_source("dualvit_n")
    with pytest.raises(MissingFileError, match=r"no model at absent.ckpt"):
        open_source("absent.ckpt")
    with pytest.raises(MissingFileError, match=r"no weights at absent.safetensors"):
        open_source("dualvit_n", "absent.safetensors")


def test_boxes_one_to_one():
    boxes = torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.5, 1]])
    assert paired(boxes, boxes) == [(0, 0), (1, 1), (2, 2)]
    assert paired(boxes, boxes[[2, 0]]) == [(0, 1), (2, 0)]
    flat = boxes[:, [0, 1, 0, 3, 4, 5]]  # without an area, as those that lie at the edge of a picture
    assert len(paired(flat, flat)) == 3
    assert paired(flat, flat + torch.tensor([5.0, 0, 5, 0, 0, 0])) == []
    assert paired(boxes, boxes + torch.tensor([0, 0, 0, 0, 0, 1.0])) == []
    assert gap_above(torch.tensor([0.3, 0.9]), 0.25) == pytest.approx(0.275)


def listed(boxes, scores):
    """Outputs of a detector of torchvision: boxes of one class."""
    scores = torch.tensor(scores)
    return [torch.tensor(boxes).float().reshape(-1, 4), torch.zeros(len(scores), dtype=torch.long), scores]


@pytest.mark.parametrize(
    ("answer", "found", "error"),
    [
        (listed([[9, 9, 30, 30], [0, 0, 5, 5]], [0.8, 0.7999999]), (2, 2), 0.0),  # the same, in another order
        (listed([[0, 0, 5, 5]], [0.8]), (2, 1), 0.0),  # one is missing
        (listed([[9, 9, 30, 30], [0, 0, 5, 5], [9, 9, 30, 30]], [0.8, 0.8, 0.8]), (3, 2), 0.0),  # one comes twice
        (listed([[9, 9, 30, 30], [0, 0, 5.005, 5]], [0.8, 0.8]), (2, 2), 0.005 / 6),  # near, and above the limit
        ([torch.zeros(2, 4)], (0, 0), float("inf")),  # outputs are missing
    ],
)
def test_listed_boxes_are_compared_with_their_partners(answer, found, error):
    metadata = Metadata("test", "detect", ("a",), (64, 64), head="torchvision", outputs=("boxes", "labels", "scores"))
    source = Source(torch.nn.Identity(), metadata, boxes=_rows)
    question = Question(torch.zeros(1, 3, 64, 64), listed([[0, 0, 5, 5], [9, 9, 30, 30]], [0.8, 0.8]))
    parity = compare(source, lambda _: [one.numpy() for one in answer], [question], "test", "float32")
    assert parity.boxes == found
    assert parity.error == pytest.approx(error, abs=1e-6)
    assert parity.within(1e-4) == (found == (2, 2) and error < 1e-4)
