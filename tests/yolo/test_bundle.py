"""One safetensors file for a whole detector."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dualvit.weights import CheckpointError
from dualvit.yolo import YOLO
from dualvit.yolo.bundle import read_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = YOLO("yolov8n-dualvit.yaml")
    return model, model.save_weights(tmp_path_factory.mktemp("bundle") / "n.safetensors", half=False)


def test_round_trip_gives_the_same_boxes(bundle):
    model, path = bundle
    again = YOLO(path)
    assert again.task == "detect"
    assert again.names == model.names
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(again.model.eval()(x)[0], model.model.eval()(x)[0], rtol=0, atol=0)


def test_writing_again_gives_the_same_file(bundle, tmp_path):
    model, path = bundle
    again = [model.save_weights(tmp_path / f"{n}.safetensors", half=False).read_bytes() for n in range(3)]
    assert set(again) == {path.read_bytes()}


def test_half_precision_is_half_the_size(bundle, tmp_path):
    model, path = bundle
    half = model.save_weights(tmp_path / "half.safetensors")
    assert half.stat().st_size < 0.55 * path.stat().st_size
    assert YOLO(half).model.model[0].model.model.stem.conv[0].weight.dtype == torch.float32


@pytest.mark.slow
def test_training_starts_from_it(bundle, digits, tmp_path):
    model, path = bundle
    start = {}
    again = YOLO(path)
    again.add_callback(
        "on_train_start", lambda t: start.update({k: v.clone() for k, v in t.model.state_dict().items()})
    )
    again.train(
        data=str(digits), imgsz=64, batch=4, epochs=1, device="cpu", workers=0, plots=False, project=str(tmp_path),
        optimizer="AdamW", verbose=False,
    )  # fmt: skip
    own = model.model.state_dict()
    backbone = [k for k in own if k.startswith("model.0.")]
    assert all(torch.equal(start[k], own[k]) for k in backbone)


def test_bad_files_are_one_line(bundle, tmp_path):
    _, path = bundle
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:5000])
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name, words in [("absent", "no checkpoint at"), ("broken", "truncated"), ("other", "holds no YOLO model")]:
        with pytest.raises(CheckpointError, match=words):
            read_bundle(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="end its name in"):
        bundle[0].save_weights(tmp_path / "x.pt")


@pytest.mark.slow
def test_track_follows_an_object_over_frames():
    """Frames of one picture that shifts: boxes that are kept get the same identity in each frame."""
    model = YOLO("yolov8n-dualvit.yaml")
    with torch.no_grad():  # an untrained head that is sure of one place
        for branch in model.model.model[-1].cv3:
            branch[-1].bias.fill_(4.0)
    picture = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    seen = []
    for _ in range(3):
        result = model.track(picture, imgsz=64, persist=True, device="cpu", conf=0.3, max_det=3, verbose=False)[0]
        seen.append(set() if result.boxes.id is None else set(result.boxes.id.int().tolist()))
    assert seen[1] and seen[1] & seen[2]
