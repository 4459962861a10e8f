"""`start=True`: which file is loaded, what stays as initialised, and what is refused in one line."""

import json
import logging

import pytest
import torch

ultralytics = pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")

import dualvit  # noqa: E402
from dualvit.errors import InputError  # noqa: E402
from dualvit.weights.convert import to_safetensors  # noqa: E402
from dualvit.weights.starts import start_names  # noqa: E402
from dualvit.yolo import YOLO  # noqa: E402
from dualvit.yolo.bundle import read_bundle, write_bundle  # noqa: E402
from dualvit.yolo.starts import backbone_name  # noqa: E402

WHOLE = ("yolov8n-dualvit", "yolov8n-dualvit-seg")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Make starts of fresh networks, all of whose entries differ from those that a new model has."""
    folder = tmp_path_factory.mktemp("shipped")
    torch.manual_seed(7)
    for name in ("dualvit_n", "dualvit_t"):
        state = {key: value.half() for key, value in dualvit.create_model(name).state_dict().items()}
        about = {"start": json.dumps({"versions": {"dualvit": "0.0.1"}})}
        (folder / f"{name}.safetensors").write_bytes(to_safetensors(state, about))
    for name in WHOLE:
        write_bundle(YOLO(f"{name}.yaml").model, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def starts(shipped, monkeypatch):
    monkeypatch.setattr("dualvit.weights.starts.FOLDER", shipped)
    return shipped


def entries(model):
    return {name: value.half() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", WHOLE)
def test_a_shipped_start_is_the_whole_model(name):
    assert name in start_names()
    model = YOLO(f"{name}.yaml", start=True).model
    own, bundle = entries(model), read_bundle(dualvit.weights.starts.start_file(name))
    same = [entry for entry in own if torch.equal(own[entry], bundle.weights[entry].half())]
    head = f"model.{len(model.model) - 1}."
    assert set(own) == set(bundle.weights) and all(entry.startswith(head) for entry in set(own) - set(same))
    assert len(same) > 0.9 * len(own)


@pytest.mark.parametrize("name", WHOLE)
def test_all_entries_are_loaded_and_said(name, starts, caplog):
    caplog.set_level(logging.INFO, "ultralytics")
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    own = entries(YOLO(f"{name}.yaml", start=True).model)
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    weights = read_bundle(starts / f"{name}.safetensors").weights
    assert all(torch.equal(value, weights[entry].half()) for entry, value in own.items())
    assert f"start: {len(own)} of {len(own)} entries of {starts / name}.safetensors" in caplog.text


def test_without_it_the_model_is_noise(starts):
    torch.manual_seed(0)
    noise = entries(YOLO("yolov8n-dualvit.yaml").model)
    torch.manual_seed(0)
    said = entries(YOLO("yolov8n-dualvit.yaml", start=False).model)
    assert all(torch.equal(noise[name], said[name]) for name in noise)
    weights = read_bundle(starts / "yolov8n-dualvit.safetensors").weights
    assert not all(torch.equal(noise[name], weights[name].half()) for name in noise)


@pytest.mark.parametrize(
    ("yaml", "options", "backbone"),
    [
        ("yolov8s-dualvit.yaml", {}, "dualvit_t"),
        ("yolov8n-dualvit-pose.yaml", {}, "dualvit_n"),
        ("yolov8n-dualvit-cls.yaml", {}, "dualvit_n"),
        ("yolov8n-timm.yaml", {"backbone": "dualvit_n"}, "dualvit_n"),
        ("yolov8n-dualvit.yaml", {"backbone": "dualvit_t"}, "dualvit_t"),
    ],
)
def test_other_models_take_the_start_of_their_backbone(yaml, options, backbone, starts):
    from dualvit.weights.read import read_checkpoint
    from dualvit.yolo.groups import backbone_of

    model = YOLO(yaml, start=True, **options).model
    assert backbone_name(model.yaml) == backbone
    state = read_checkpoint(starts / f"{backbone}.safetensors")
    own = backbone_of(model).model.state_dict()
    sums = sorted(round(float(value.float().sum()), 4) for value in own.values())
    there = sorted(round(float(value.float().sum()), 4) for value in state.values())
    assert set(sums) <= set(there)


@pytest.mark.parametrize(
    ("yaml", "options", "said"),
    [
        ("yolov8m-dualvit.yaml", {}, "no start is shipped for dualvit_s; there are dualvit_n, dualvit_t, yolov8n-"),
        ("yolov8n-timm.yaml", {"backbone": "convnext_atto"}, "no start is shipped for convnext_atto; there are"),
        ("yolov8n-dualvit.yaml", {"weights": "mine.pth"}, "start and weights=.* are both given; leave one of them"),
        ("yolov8n.yaml", {}, "start is for models on a timm backbone, which yolov8n.yaml is not"),
        ("yolov8n-timm.yaml", {"backbone": "dualvit_n", "backbone_args": {"depths": [1, 1, 2, 1]}}, "does not fit"),
    ],
)
def test_what_cannot_be_is_one_line(yaml, options, said, starts):
    with pytest.raises(InputError, match=said) as caught:
        YOLO(yaml, start=True, **options)
    assert "\n" not in str(caught.value)


def test_a_start_of_another_version_is_one_line(starts, tmp_path, monkeypatch):
    for name in ("dualvit_n", "dualvit_t"):
        (tmp_path / f"{name}.safetensors").write_bytes((starts / f"{name}.safetensors").read_bytes())
    (tmp_path / "yolov8n-dualvit-seg.safetensors").write_bytes((starts / "yolov8n-dualvit.safetensors").read_bytes())
    (tmp_path / "dualvit_n.safetensors").write_bytes((starts / "dualvit_t.safetensors").read_bytes())
    monkeypatch.setattr("dualvit.weights.starts.FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"the start dualvit_n \(made by dualvit 0.0.1\) does not fit this network"):
        YOLO("yolov8n-dualvit.yaml", start=True)
    with pytest.raises(InputError, match=r"the start yolov8n-dualvit-seg .* does not fit this network.* makes it anew"):
        YOLO("yolov8n-dualvit-seg.yaml", start=True)


def test_a_word_that_is_no_switch_is_one_line(tmp_path):
    with pytest.raises(InputError, match="start='digits' is neither True nor False; weights=FILE is for a file"):
        YOLO("yolov8n-dualvit.yaml", start="digits")
    with pytest.raises(InputError, match=r"^weights is 'start', which is a recipe's word; in YOLO give start=True$"):
        YOLO("yolov8n-dualvit.yaml", weights="start")


def test_the_command_line_takes_true_and_false():
    from dualvit_cli.yolo import _parse

    assert _parse("start", "True") is True and _parse("start", "false") is False
    with pytest.raises(ValueError, match="start=2 is neither True nor False; weights=FILE is for a file of yours"):
        _parse("start", "2")


def test_a_checkpoint_brings_its_own(starts, tmp_path):
    file = YOLO("yolov8n-dualvit.yaml").save_weights(tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match="start is for a build from YAML"):
        YOLO(file, start=True)
    assert YOLO(file, start=False).task == "detect"
    kept = YOLO("yolov8n-dualvit.yaml", start=True).save_weights(tmp_path / "started.safetensors")
    assert "start" not in read_bundle(kept).yaml


def test_training_begins_from_it_and_keeps_the_head_of_other_classes_new(starts, tmp_path):
    from dualvit.drawn.digits import write_digits

    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    data = write_digits(tmp_path / "digits", images=5, size=64)
    model = YOLO("yolov8n-dualvit.yaml", start=True)
    kept = {}

    def before_the_first_step(trainer):
        kept.update(entries(trainer.model))
        kept["from_scratch"] = trainer.model.yaml["from_scratch"]

    model.add_callback("on_train_start", before_the_first_step)
    model.train(
        data=str(data), imgsz=64, epochs=1, batch=4, device="cpu", workers=0, plots=False, val=False, amp=False,
        project=str(tmp_path), name="run", verbose=False,
    )  # fmt: skip
    weights = read_bundle(starts / "yolov8n-dualvit.safetensors").weights
    assert kept.pop("from_scratch") is False
    new = [name for name, value in kept.items() if value.shape != weights[name].shape]
    assert new and all(name.startswith("model.") and ".cv3." in name for name in new)
    same = [name for name in kept if name not in new]
    assert all(torch.equal(kept[name], weights[name].half()) for name in same)
