"""Crafted .safetensors files of detectors: by every door they are one line, and nothing that they name is touched."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")

from PIL import Image

import dualvit_cli
from dualvit.weights import CheckpointError, to_safetensors
from dualvit.yolo import YOLO
from dualvit.yolo.bundle import read_bundle
from dualvit.yolo.trainers import DetectionTrainer

TINY = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [16]]],
    "head": [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[2, 3], 1, "Detect", ["nc"]]],
}
BACKBONE = [-1, 1, "TimmBackbone", [{"name": "dualvit_n"}]]
URL = "http://dualvit.invalid/x.pth"


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A whole bundle of a very small detector: its metadata, and its weights."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(json.dumps(TINY))
    path = YOLO(folder / "tiny.yaml").save_weights(folder / "tiny.safetensors", half=False)
    assert YOLO(path).names == {0: "0", 1: "1"}
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def with_yaml(**settings):
    return lambda yaml: yaml | settings


def first_row(*row):
    def change(yaml):
        yaml["backbone"][0] = list(row)
        return yaml

    return change


def backbone(**options):
    return first_row(-1, 1, "TimmBackbone", [{"name": "dualvit_n"} | options])


def grown(*rows):
    return lambda yaml: yaml | {"head": [*rows, *yaml["head"]]}


# What the model YAML of a file is made to say; CANARY stands for a file that it would write, EVIL for a pickle.
YAMLS = {
    "activation calls": with_yaml(activation="__import__('pathlib').Path('CANARY').touch()"),
    "activation after a known one": with_yaml(activation="nn.SiLU() or open('CANARY', 'w')"),
    "activation with an argument": with_yaml(activation="nn.LeakyReLU(open('CANARY', 'w'))"),
    "activation of another kind": with_yaml(activation=["nn.SiLU()"]),
    "torch_safe_load": first_row(-1, 1, "torch_safe_load", ["EVIL"]),
    "load_checkpoint": first_row(-1, 1, "load_checkpoint", ["EVIL"]),
    "attempt_load_one_weight": first_row(-1, 1, "attempt_load_one_weight", ["EVIL"]),
    "torch itself": first_row(-1, 1, "torch", ["EVIL"]),
    "checks": first_row(-1, 1, "check_requirements", ["dualvit-evil"]),
    "a function of torch.nn": first_row(-1, 1, "nn.factory_kwargs", [{}]),
    "a function of torchvision": first_row(-1, 1, "torchvision.ops.nms", [1]),
    "TorchVision with weights": first_row(-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2, True]),
    "a module that is a list": first_row(-1, 1, ["Conv"], [16]),
    "pretrained": backbone(pretrained=True),
    "pretrained_cfg": backbone(pretrained_cfg={"url": URL}),
    "pretrained_cfg_overlay": backbone(pretrained=True, pretrained_cfg_overlay={"url": URL}),
    "pretrained_cfg_overlay to a file": backbone(pretrained=True, pretrained_cfg_overlay={"file": "EVIL"}),
    "checkpoint_path": backbone(checkpoint_path="EVIL"),
    "cache_dir": backbone(cache_dir="CANARY"),
    "a hub": backbone(name="hf-hub:someone/something"),
    "a local folder": backbone(name="local-dir:CANARY"),
    "a URL among scales": backbone(name={"n": URL}),
    "an option with a path": backbone(mixer="../CANARY"),
    "an option with a URL": backbone(mixer=URL),
    "weights": with_yaml(weights="EVIL"),
    "yaml_file": with_yaml(yaml_file="EVIL"),
    "like": with_yaml(like="yolov8-timm.yaml"),
    "text_model": with_yaml(text_model="mobileclip:blt"),
    "an argument with a path": first_row(-1, 1, "Conv", [16, 3, 2, "EVIL"]),
    "an argument to evaluate": first_row(-1, 1, "Conv", [16, "[0] * 10 ** 10", 2]),
    "repeats": first_row(-1, 10**9, "C2f", [16]),
    "repeats that are no number": first_row(-1, "many", "C2f", [16]),
    "repeats below one": first_row(-1, -3, "C2f", [16]),
    "depth": with_yaml(depth_multiple=1e9),
    "depth of a scale": with_yaml(scales={"n": [1e9, 1.0, 1024]}, scale="n"),
    "a scale that is not there": with_yaml(scales={"s": [1.0, 1.0, 1024]}, scale="n"),
    "a scale that is a list": with_yaml(scales={"n": [1.0, 1.0, 1024]}, scale=["n"]),
    "width": with_yaml(width_multiple=float("inf")),
    "channels of a row": first_row(-1, 1, "Conv", [10**9, 3, 2]),
    "many channels": first_row(-1, 1, "Conv", [65536, 3, 2]),
    "a large kernel": first_row(-1, 1, "Conv", [16, 65535, 2]),
    "a large window": first_row(-1, 1, "nn.MaxPool2d", [60001, 1, 30000]),
    "blocks without end": backbone(depths=[65536, 65536, 65536, 65536]),
    "a nested number": backbone(depths=[[[[[[[[[[1]]]]]]]]]]),
    "a huge number": backbone(depths=10**4000),
    "maps that grow": grown(*[[-1, 1, "nn.Upsample", [None, 8, "nearest"]]] * 12),
    "classes": with_yaml(nc=10**9),
    "classes below one": with_yaml(nc=-1),
    "classes as a text": with_yaml(nc="two"),
    "image channels": with_yaml(channels=10**9),
    "keypoints": with_yaml(kpt_shape=[10**9, 10**9]),
    "no head": lambda yaml: yaml | {"head": []},
    "no backbone": lambda yaml: {key: value for key, value in yaml.items() if key != "backbone"},
    "another head": lambda yaml: yaml | {"head": [[-1, 1, "Classify", ["nc"]]]},
    "rows of the future": lambda yaml: yaml | {"head": [[[2, 9], 1, "Detect", ["nc"]]]},
    "rows of no list": lambda yaml: yaml | {"head": {"a": 1}},
    "a short row": first_row(-1, 1, "Conv"),
    "a row that is none": lambda yaml: yaml | {"backbone": [None]},
    "other arguments": first_row(-1, 1, "Conv", [{}]),
    "rows that do not fit": first_row(-1, 1, "Conv", [32, 3, 2]),
    "a YAML that is a list": lambda yaml: [yaml],
    "a YAML that is none": lambda yaml: None,
}
METADATA = {  # other texts of a file's metadata
    "names lead out": {"names": '{"0": "../../CANARY", "1": "b"}'},
    "names lead to the root": {"names": '{"0": "/CANARY", "1": "b"}'},
    "names of control signs": {"names": '{"0": "\\u001b[2J", "1": "b"}'},
    "too few names": {"names": '{"0": "a"}'},
    "names as a list": {"names": '["a", "b"]'},
    "names as a text": {"names": '"ab"'},
    "names by no number": {"names": '{"a": "a", "b": "b"}'},
    "names that are numbers": {"names": '{"0": 1, "1": 2}'},
    "no JSON": {"yaml": "{"},
    "deep JSON": {"yaml": "[" * 100_000},
    "another task": {"task": "classify"},
    "no task": {"task": "../CANARY"},
}


def crafted(tiny, tmp_path, canary, change=None, metadata=None, weights=None):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(canary)))
    own, values = tiny
    said = dict(own)
    if change:
        said["yaml"] = json.dumps(change(copy.deepcopy(json.loads(own["yaml"]))))
    said |= metadata or {}
    said = {
        key: value.replace("CANARY", str(canary)).replace("EVIL", str(tmp_path / "evil.pt"))
        for key, value in said.items()
    }
    path = tmp_path / "crafted.safetensors"
    path.write_bytes(to_safetensors(values | (weights or {}), said))
    return path


def doors(path, tmp_path):
    """Every way that opens such a file."""
    trainer = DetectionTrainer.__new__(DetectionTrainer)
    trainer.args, trainer.data = None, {"nc": 2, "channels": 3}
    yield lambda: read_bundle(path)
    yield lambda: YOLO(path)
    yield lambda: YOLO(str(path), task="detect")
    yield lambda: YOLO("yolov8n.yaml").load(path)
    yield lambda: YOLO("yolov8n.yaml").train(data="data.yaml", pretrained=str(path), project=str(tmp_path))
    yield lambda: trainer.get_model(cfg=path)


def refused(path, tmp_path):
    for door in doors(path, tmp_path):
        with pytest.raises(CheckpointError) as error:
            door()
        assert "\n" not in str(error.value)
        assert path.name in str(error.value)
        assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", YAMLS)
def test_a_model_that_is_none(tiny, tmp_path, canary, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.yaml").write_text("train: .\nval: .\nnames: [a, b]\n")
    refused(crafted(tiny, tmp_path, canary, YAMLS[name]), tmp_path)


@pytest.mark.parametrize("name", METADATA)
def test_texts_that_are_none(tiny, tmp_path, canary, name):
    refused(crafted(tiny, tmp_path, canary, metadata=METADATA[name]), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tiny, tmp_path, canary, value):
    name = "model.0.conv.weight"
    wrong = tiny[1][name].clone()
    wrong[0, 0, 0, 0] = value
    refused(crafted(tiny, tmp_path, canary, weights={name: wrong}), tmp_path)


def test_weights_of_another_shape_or_kind(tiny, tmp_path, canary):
    name = "model.0.conv.weight"
    for wrong in (torch.zeros(1), torch.zeros_like(tiny[1][name], dtype=torch.int32)):
        refused(crafted(tiny, tmp_path, canary, weights={name: wrong}), tmp_path)
    refused(crafted(tiny, tmp_path, canary, weights={"model.9.extra": torch.zeros(1)}), tmp_path)


@pytest.mark.parametrize("name", ["activation calls", "load_checkpoint", "pretrained_cfg_overlay"])
def test_the_command_line(tiny, tmp_path, canary, monkeypatch, capsys, name):
    path = crafted(tiny, tmp_path, canary, YAMLS[name])
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dualvit", "yolo", "detect", "predict", f"model={path}", "source=a.png"])
    with pytest.raises(SystemExit) as end:
        dualvit_cli.main()
    assert end.value.code == 1
    assert "was not opened" in capsys.readouterr().err


def test_a_pickle_under_this_name_is_not_unpickled(tmp_path, canary):
    path = tmp_path / "crafted.safetensors"
    path.write_bytes(pickle.dumps(Evil(canary)))
    refused(path, tmp_path)
    torch.save(Evil(canary), path)
    refused(path, tmp_path)


def test_what_is_written_can_be_opened_or_is_an_error(tiny, tmp_path):
    model = YOLO("yolov8n.yaml")
    model.model.names[0] = "../up"
    with pytest.raises(CheckpointError, match="leads out of a folder"):
        model.save_weights(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    (tmp_path / "relu.yaml").write_text(json.dumps(TINY | {"activation": "nn.LeakyReLU(0.1)"}))
    again = YOLO(YOLO(tmp_path / "relu.yaml").save_weights(tmp_path / "relu.safetensors"))
    assert type(again.model.model[0].act) is torch.nn.LeakyReLU
