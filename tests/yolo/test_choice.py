"""`dualvit backbones`: what a timm model is under a YOLO, its weights on this machine, and the table."""

import pytest
import timm
import torch
from torch import nn

from dualvit.backbones.timm_model import plan_backbone
from dualvit.bench.cost import macs
from dualvit.weights import local
from dualvit.weights.starts import start_file
from dualvit.yolo.choice import build, choice
from dualvit_cli.backbones import backbones


@pytest.mark.parametrize("yolo", ["yolov8n-timm.yaml", "yolo26n-timm.yaml"])
def test_what_is_told_is_what_is_built(yolo):
    told, model = choice("resnet10t", yolo, 96), build("resnet10t", yolo)
    model.fuse(verbose=False)
    assert told.channels == dict(zip((8, 16, 32), plan_backbone("resnet10t").channels, strict=True))
    assert told.parameters == sum(p.numel() for p in plan_backbone("resnet10t").build().parameters())
    norms = sum(p.numel() for p in model.parameters()) - told.whole  # fusing folds norms, and adds biases
    assert abs(norms) < 0.01 * told.whole
    assert 2 * macs(model, 96) / 1e9 == pytest.approx(told.gflops, rel=1e-3)


def test_what_cannot_be_told_is_one_line():
    with pytest.raises(ValueError, match=r"^image_size is 100; give a multiple of 32"):
        choice("resnet10t", "yolov8n-timm.yaml", 100)
    with pytest.raises(ValueError, match="no map at stride 8"):
        choice("vit_tiny_patch16_224", "yolov8n-timm.yaml", 96)


def test_weights_at_hand(monkeypatch, tmp_path):
    asked = []

    def cached(repository, file):
        asked.append(repository)
        return str(tmp_path / file) if file == "pytorch_model.bin" and repository == "timm/resnet18.a1_in1k" else None

    monkeypatch.setattr(local, "try_to_load_from_cache", cached)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert local.at_hand("resnet18") == tmp_path / "pytorch_model.bin"
    assert asked[-1] == "timm/resnet18.a1_in1k"
    assert local.at_hand("resnet10t") is None and local.at_hand("dualvit_n") == start_file("dualvit_n")
    url = timm.get_pretrained_cfg("resnet34").url or timm.get_pretrained_cfg("densenet121").url
    assert url
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / url.rpartition("/")[2]).touch()
    assert url.rpartition("/")[2] in str([local.at_hand(name) for name in ("resnet34", "densenet121")])


def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr("dualvit_cli.backbones.latency", lambda *_: 12.34)
    backbones(["resnet10t", "vit_tiny*"], yolo="yolo11n", image_size=96, measure=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    row = next(line for line in lines if line and line[0] == "resnet10t")
    assert row[1:4] == ["128", "256", "512"] and row[-2:] == ["12.3", "-"]
    assert lines[-1][:6] == ["1", "of", str(1 + len(timm.list_models("vit_tiny*"))), "fit", "under", "yolo11n;"]
    for names, error in ((["vit_tiny_patch16_224"], "no map at stride 8"), (["resnet10x"], "did you mean resnet10")):
        with pytest.raises(ValueError, match=error):
            backbones(names, image_size=96)


def test_latency_is_of_the_fused_model(monkeypatch):
    from dualvit_cli.backbones import latency

    seen = []
    monkeypatch.setattr(
        "dualvit.bench.cost.latencies", lambda models, *_, **__: seen.append(models) or {"resnet10t": [0.001] * 5}
    )
    assert latency("resnet10t", "yolov8n-timm.yaml", 64, 5) == pytest.approx(1.0)
    assert not [m for m in seen[-1]["resnet10t"].model[4:].modules() if isinstance(m, nn.BatchNorm2d)]
