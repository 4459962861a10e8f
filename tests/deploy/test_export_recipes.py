"""Checkpoints of recipes as ONNX: the file answers as the checkpoint does, of whole pictures too."""

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")
pytest.importorskip("onnxslim", reason="needs dualvit[export]")
pytest.importorskip("onnxruntime", reason="needs dualvit[export]")

from dualvit.deploy.export import export
from dualvit.deploy.metadata import read_metadata
from dualvit.deploy.predictor import open_predictor
from dualvit.deploy.reading import mask_of
from dualvit.deploy.sources import awaken, open_source
from dualvit.recipes import run
from dualvit.recipes.config import plain

SMALL = "network.options={stem_width: 8, dims: [32, 64, 96, 128], depths: [1, 1, 1, 1]}"
CHANGES = {
    "classify": ["data.image_size=32"],
    "masks": ["data.short_side=32", "data.long_side=64", "head={channels: 16, score: 0.3, detections: 5, rois: 8}"],
    "semantic": ["data.short_side=32", "data.image_size=32", "data.stride=32", "decoder.channels=16"],
}


@pytest.fixture
def checkpoint(request, tmp_path):
    """A checkpoint of a network that learned nothing, whose branches all count."""
    changes = ["data.root=x", "network.name=dualvit_n", SMALL, *CHANGES[request.param]]
    settings = run.load_recipe(f"laptop-{request.param}", changes)
    task = run.kind(settings.task).TaskType(settings, ("a", "b"))
    awaken(task.network)
    held = {"recipe": plain(settings), "classes": ["a", "b"]}
    torch.save({"dualvit": held, "state_dict": task.state_dict()}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8))


@pytest.mark.parametrize("checkpoint", ["classify"], indirect=True)
def test_a_classifier(checkpoint):
    file = checkpoint.with_suffix(".onnx")
    result = export(open_source(str(checkpoint)), "onnx", file)
    assert all(parity.error < 1e-5 for parity in result.parities)
    assert read_metadata(file).classes == ("a", "b")
    (expected,), (answer,) = (open_predictor(one).predict([picture()]) for one in (checkpoint, file))
    assert [one["name"] for one in answer["classes"]] == [one["name"] for one in expected["classes"]]
    scores = [[one["score"] for one in said["classes"]] for said in (expected, answer)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


@pytest.mark.parametrize("checkpoint", ["semantic"], indirect=True)
def test_a_segmenter(checkpoint):
    file = checkpoint.with_suffix(".onnx")
    result = export(open_source(str(checkpoint)), "onnx", file)
    assert all(parity.error < 1e-5 for parity in result.parities)
    (expected,), (answer,) = (open_predictor(one).predict([picture()]) for one in (checkpoint, file))
    assert [one["name"] for one in answer["regions"]] == [one["name"] for one in expected["regions"]]
    for one, other in zip(answer["regions"], expected["regions"], strict=True):
        assert (mask_of(one["mask"]) != mask_of(other["mask"])).mean() < 0.01  # pixels between two classes


@pytest.mark.parametrize("checkpoint", ["masks"], indirect=True)
@pytest.mark.parametrize("least", [pytest.param(0.3, marks=pytest.mark.slow), 1.0])
def test_a_detector_with_boxes_and_without(checkpoint, least):
    """Branches that only a picture without boxes takes are in the file, too."""
    held = torch.load(checkpoint, weights_only=False)
    held["dualvit"]["recipe"]["head"]["score"] = least
    torch.save(held, checkpoint)
    result = export(open_source(str(checkpoint)), "onnx", checkpoint.with_suffix(".onnx"))
    for parity in result.parities:
        assert parity.error < 1e-4
        assert parity.boxes[0] == parity.boxes[1] and (parity.boxes[0] > 0) == (least < 1)
