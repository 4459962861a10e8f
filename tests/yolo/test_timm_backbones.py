"""YOLOv8 on timm's families: builds, trains, resumes, exports, takes weights and options."""

import contextlib
import json
import logging
import re
import sys

import numpy as np
import pytest
import timm
import torch
import ultralytics
import ultralytics.cfg
from safetensors.torch import save_file
from ultralytics.nn.tasks import DetectionModel

from dualvit.backbones.timm_model import layer_ids, never_decayed
from dualvit.weights import CheckpointError
from dualvit.weights.match import full_names
from dualvit.yolo import YOLO
from dualvit.yolo.groups import backbone_of, layer_scales
from dualvit.yolo.trainers import DetectionTrainer
from dualvit_cli.yolo import run

SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 2, "device": "cpu", "workers": 0, "plots": False, "amp": False,
    "optimizer": "AdamW", "name": "run", "verbose": False,
}  # fmt: skip
# The smallest member of each family; shallow and narrow where that one is large.
FAMILIES = {
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": [1, 1, 2, 1]},
    "pvt_v2_b0": {},
    "twins_svt_small": {"embed_dims": [32, 64, 128, 256], "depths": [1, 1, 2, 1]},
    "convnext_atto": {},
    "mobilenetv4_conv_small": {},
}
SWIN = "swin_tiny_patch4_window7_224"
families = pytest.mark.parametrize("name", FAMILIES)


def build(name, yaml="yolov8n-timm.yaml", **options):
    return YOLO(yaml, backbone=name, backbone_args=FAMILIES[name], **options)


@families
def test_maps_are_timms_own_at_two_sizes(name):
    model = build(name).model.eval()
    backbone = backbone_of(model)
    reference = timm.create_model(
        name, features_only=True, out_indices=backbone.model.feature_info.out_indices, **FAMILIES[name],
        **({"strict_img_size": False, "always_partition": True} if name == SWIN else {}),
    ).eval()  # fmt: skip
    reference.load_state_dict(backbone.model.state_dict())
    for height, width in ((64, 64), (96, 160)):
        x = torch.rand(2, 3, height, width)
        with torch.no_grad():
            for stride, ours, theirs in zip((8, 16, 32), backbone(x), reference(x), strict=True):
                theirs = theirs.permute(0, 3, 1, 2) if name == SWIN else theirs
                assert ours.shape[2:] == (height // stride, width // stride)
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            boxes = model(x)[0]
        assert boxes.shape == (2, 84, height * width * (1 / 8**2 + 1 / 16**2 + 1 / 32**2))
        assert torch.isfinite(boxes).all()


@families
def test_the_yaml_of_a_checkpoint_builds_the_same_model(name):
    model = build(name, drop_path_rate=0.1).model
    yaml = json.loads(json.dumps(model.yaml))
    assert yaml["backbone"][0][3][0] == {"name": name, **FAMILIES[name]}
    assert "backbone_args" not in yaml
    again = DetectionModel(yaml, verbose=False)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    rates = [m.drop_prob for m in backbone_of(again).modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1, abs=0.03)  # MobileNetV4's rise ends at the classifier


@families
def test_each_layer_has_its_lr_and_position_tables_no_decay(name):
    model = build(name, layer_decay=0.5, backbone_lr=0.1).model
    trainer = DetectionTrainer.__new__(DetectionTrainer)
    trainer.args = type("Args", (), {"warmup_bias_lr": 0.1, "optimizer": "AdamW", "lr0": 0.01})()
    trainer.data = {"nc": 80}
    optimizer = trainer.build_optimizer(model, name="AdamW", lr=0.01, momentum=0.9, decay=0.05, iterations=100)
    placed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())
    backbone = backbone_of(model)
    whole = backbone.full_network()
    layers, exempt = layer_ids(backbone.model, whole), never_decayed(backbone.model, whole)
    top = max(layers.values())
    assert top >= 4
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for key, p in backbone.model.named_parameters():
        group = group_of[id(p)]
        assert group["initial_lr"] == pytest.approx(0.01 * 0.1 * 0.5 ** (top - layers[key])), key
        assert group["weight_decay"] == (0.0 if p.ndim < 2 or key in exempt else 0.05), key
    assert layer_scales(model, None, 0.1).keys() == {id(p) for p in backbone.model.parameters()}


@families
def test_weights_equal_the_file_bit_for_bit(name, tmp_path, caplog):
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "ultralytics")
    state = timm.create_model(name, num_classes=7, **FAMILIES[name]).state_dict()
    save_file(
        {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "w.safetensors"
    )
    backbone = backbone_of(build(name, weights=tmp_path / "w.safetensors").model)
    from safetensors.torch import load_file

    file, own = load_file(tmp_path / "w.safetensors"), backbone.model.state_dict()
    names = full_names(backbone.model, backbone.full_network())
    assert all(torch.equal(value, file[names[key]]) for key, value in own.items())
    assert f"{len(own)} of {len(own)} loaded from" in caplog.text
    assert f"({len(file) - len(own)} of the heads left out)" in caplog.text
    classifier = timm.create_model(name, **FAMILIES[name]).pretrained_cfg["classifier"]
    assert f"{classifier}.weight" in file
    assert f"{classifier}.weight" not in names.values()


def test_swins_original_file_loads(tmp_path):
    """As published: under `model`, downsampling at the end of a stage, `head.`, and index buffers."""
    state = timm.create_model(SWIN, **FAMILIES[SWIN]).state_dict()
    original = {}
    for key, value in state.items():
        key = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        original[key.replace("head.fc.", "head.")] = value
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save({"model": original}, tmp_path / "swin.pth")
    backbone = backbone_of(build(SWIN, weights=tmp_path / "swin.pth").model)
    names = full_names(backbone.model, backbone.full_network())
    assert all(torch.equal(value, state[names[key]]) for key, value in backbone.model.state_dict().items())


def test_convnexts_original_file_loads(tmp_path):
    state = timm.create_model("convnext_atto").state_dict()
    renames = [
        (r"^stem\.(\d)", r"downsample_layers.0.\1"), (r"^stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2"),
        (r"^stages\.(\d)\.blocks\.(\d)", r"stages.\1.\2"), (r"conv_dw", "dwconv"), (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"), (r"^head\.fc", "head"),
    ]  # fmt: skip
    original = {}
    for key, value in state.items():
        for pattern, new in renames:
            key = re.sub(pattern, new, key)
        # a 1x1 convolution here (atto has them) is a linear layer there
        original[key] = value.flatten(1) if value.ndim == 4 and value.shape[2:] == (1, 1) else value
    torch.save({"model": original}, tmp_path / "convnext.pth")
    backbone = backbone_of(YOLO("yolov8n-timm.yaml", backbone="convnext_atto", weights=tmp_path / "convnext.pth").model)
    names = full_names(backbone.model, backbone.full_network())
    assert all(torch.equal(value, state[names[key]]) for key, value in backbone.model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "into", "words"),
    [
        ("resnet18", "mobilenetv4_conv_small", r"weights do not match: 1 of \d+ .* unexpected: layer1"),
        ("pvt_v2_b0", "convnext_atto", "give a checkpoint of this very model"),
        ("dualvit_n", "pvt_v2_b0", "it is a checkpoint of dualvit_n"),
    ],
)
def test_weights_of_another_model_are_one_line(given, into, words, tmp_path):
    save_file(timm.create_model(given, num_classes=3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=words) as error:
        YOLO("yolov8n-timm.yaml", backbone=into, weights=tmp_path / "w.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("yaml", "options", "words"),
    [
        ("yolov8n-timm.yaml", {"backbone": "convnext_ato"}, "unknown model 'convnext_ato'; did you mean convnext_atto"),
        ("yolov8n-timm.yaml", {"backbone": "vit_tiny_patch16_224"}, "has no map at stride 8"),
        ("yolov8n-timm.yaml", {"backbone": "resnet18", "backbone_args": {"mixer": "a"}}, "take the option 'mixer'"),
        ("yolov8n-timm.yaml", {"backbone_args": "mixer"}, "backbone_args='mixer' is no mapping"),
        (
            "yolov8n-timm.yaml",
            {"backbone": "vgg11_bn", "drop_path_rate": 0.1},
            "does not take the option 'drop_path_rate'",
        ),
        ("yolov8n-timm.yaml", {"backbone": "resnet18", "layer_decay": 2}, r"layer_decay=2 is not in \(0, 1\]"),
        ("yolov8n.yaml", {"backbone": "resnet18"}, "yolov8n.yaml is not; use yolov8n-timm.yaml"),
        ("yolov8n.yaml", {"layer_decay": 0.5}, "layer_decay is for models on a timm backbone"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(yaml, options, words):
    with pytest.raises(ValueError, match=words) as error:
        YOLO(yaml, **options)
    assert "\n" not in str(error.value)


def test_dualvits_yaml_takes_another_backbone_and_a_checkpoint_none(tmp_path):
    model = YOLO("yolov8s-dualvit-seg.yaml", backbone="resnet18")
    assert model.task == "segment"
    assert backbone_of(model.model).spec == {"name": "resnet18", "in_chans": 3}
    path = model.save_weights(tmp_path / "run.safetensors")
    assert YOLO(path, layer_decay=0.5).model.yaml["layer_decay"] == 0.5
    with pytest.raises(ValueError, match=r"backbone is for a build from YAML; .*run\.safetensors has its backbone"):
        YOLO(path, backbone="resnet18")


def test_a_users_yaml_may_name_backbone_args_and_lean_on_ours(tmp_path):
    file = tmp_path / "yolov8s-mine.yaml"
    file.write_text(
        "like: yolov8-timm-seg.yaml\nnc: 3\nbackbone: {n: resnet10t, s: convnext_atto}\n"
        "backbone_args: {drop_path_rate: 0.2}\nlast: [[9, 12, 15], 1, Detect, [nc]]\n"
    )
    model = YOLO(file)
    assert (model.task, model.model.model[-1].nc) == ("detect", 3)
    assert backbone_of(model.model).spec == {"name": "convnext_atto", "drop_path_rate": 0.2, "in_chans": 3}
    file.rename(tmp_path / "yolov8x-mine.yaml")
    with pytest.raises(ValueError, match="no scale 'x'; it has n, s"):
        YOLO(tmp_path / "yolov8x-mine.yaml")


class Killed(Exception):
    """Stands for a run that ends after its first epoch."""


def kill(trainer):
    raise Killed


@pytest.mark.slow
@families
def test_trains_resumes_and_exports(name, digits, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    model = build(name, layer_decay=0.8)
    before = {k: v.clone() for k, v in backbone_of(model.model).state_dict().items()}
    model.add_callback("on_model_save", kill)
    with contextlib.suppress(Killed):
        model.train(data=str(digits), project=str(tmp_path), **SETTINGS)
    groups = model.trainer.optimizer.param_groups
    last = tmp_path / "run" / "weights" / "last.pt"
    trained = backbone_of(YOLO(last).model).state_dict()
    assert before.keys() == trained.keys()
    resumed = YOLO(last)
    resumed.train(resume=True)
    assert resumed.trainer.start_epoch == 1
    assert [g["initial_lr"] for g in resumed.trainer.optimizer.param_groups] == [g["initial_lr"] for g in groups]
    assert 0 <= resumed.trainer.metrics["metrics/mAP50(B)"] <= 1

    file = YOLO(last).export(format="onnx", imgsz=[64, 96], device="cpu", simplify=False)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = YOLO(last).model.float().eval()(x)[0].numpy()
    (out,) = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"images": x.numpy()})
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture
def shell(monkeypatch):
    """`dualvit yolo ...` in this process; what the entry point replaces is put back afterwards."""
    for owner, name in ((ultralytics, "YOLO"), (ultralytics.cfg, "ARGV"), (sys, "argv")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    return run


@pytest.mark.slow
def test_options_from_the_shell(shell, digits, tmp_path):
    save_file(timm.create_model(SWIN, **FAMILIES[SWIN]).state_dict(), tmp_path / "w.safetensors")
    shell(
        ["detect", "train", "model=yolov8n-timm.yaml", f"data={digits}", "imgsz=64", "epochs=1", "batch=4",
         "device=cpu", "workers=0", "plots=False", "amp=False", f"project={tmp_path}", "name=run", f"backbone={SWIN}",
         "backbone_args={embed_dim: 24, depths: [1, 1, 2, 1]}", "layer_decay=0.8",
         f"weights={tmp_path / 'w.safetensors'}"]
    )  # fmt: skip
    model = YOLO(tmp_path / "run" / "weights" / "best.pt").model
    assert model.yaml["backbone"][0][3][0] == {"name": SWIN, **FAMILIES[SWIN]}
    assert model.yaml["layer_decay"] == 0.8
    assert backbone_of(model).model.feature_info.channels() == [48, 96, 192]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("backbone=swin_tiny_patch4_window7_244", "did you mean swin_tiny_patch4_window7_224"),
        ("backbone_args={embed_dim: [", "is no mapping"),
        ("backbone_args=24", "is no mapping"),
        ("backbone_lr=high", "backbone_lr=high is not a number"),
    ],
)
def test_bad_options_from_the_shell(shell, argument, words):
    with pytest.raises(ValueError, match=words):
        shell(["detect", "train", "model=yolov8n-timm.yaml", "data=absent.yaml", argument])
