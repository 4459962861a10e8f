"""The rows: backbone, maps and the C2fDual block."""

import copy

import pytest
import timm
import torch

from dualvit.fast import accelerate
from dualvit.models.registry import MIXERS
from dualvit.yolo import YOLO
from dualvit.yolo.rows import BackboneBatchNorm, C2fDual, C2fMixer, FeatureMap, TimmBackbone


def test_backbone_equals_the_timm_model_after_the_build():
    """Ultralytics sets eps and momentum of every plain BatchNorm; ours keeps its own, and so its numbers."""
    model = YOLO("yolov8n-dualvit.yaml").model.eval()
    backbone = model.model[0]
    assert isinstance(backbone, TimmBackbone)
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(type(m) is BackboneBatchNorm and m.eps == 1e-5 and m.momentum == 0.1 for m in norms)
    reference = accelerate(timm.create_model("dualvit_n", features_only=True, out_indices=(1, 2, 3))).eval()
    reference.load_state_dict(backbone.model.state_dict())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), reference(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@torch.no_grad()
def test_a_row_takes_images_of_any_size():
    row = TimmBackbone({"name": "dualvit_n"}).eval()
    assert [tuple(one.shape[2:]) for one in row(torch.randn(1, 3, 67, 71))] == [(9, 9), (5, 5), (3, 3)]
    assert [tuple(one.shape) for one in row(torch.randn(0, 3, 64, 96))] == [
        (0, 64, 8, 12),
        (0, 96, 4, 6),
        (0, 160, 2, 3),
    ]


@pytest.mark.parametrize("name", ["test_mambaout", "efficientvit_b0"])
def test_a_backbone_that_must_not_work_in_place_does_not(name):
    """What Ultralytics does to each module of a checkpoint that it opens leaves no trace in ours."""
    backbone = TimmBackbone({"name": name}).eval()
    image = torch.rand(1, 3, 64, 96)
    before = [m.detach().clone() for m in backbone(image)]
    for module in backbone.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    again = copy.deepcopy(backbone)
    after = again(image)
    sum(m.square().mean() for m in after).backward()
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_feature_map_picks_its_level():
    maps = [torch.zeros(1, c, 2, 2) for c in (3, 5, 7)]
    assert FeatureMap(0, 1, 5)(maps).shape[1] == 5


def test_c2fdual_is_global_and_trains():
    block = C2fDual(16, 24, n=2).eval()
    x = torch.randn(1, 16, 9, 7, requires_grad=True)
    out = block(x)
    assert out.shape == (1, 24, 9, 7)
    # One output pixel depends on the far corner, which only the semantics can carry there.
    (gradient,) = torch.autograd.grad(out[0, :, 0, 0].sum(), x, retain_graph=True)
    assert gradient[0, :, -1, -1].abs().max() > 0
    out.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())


@pytest.mark.parametrize("mixer", MIXERS)
def test_c2f_takes_any_mixer(mixer):
    block = C2fMixer(16, 24, n=2, mixer=mixer)
    out = block(torch.randn(2, 16, 9, 10))
    assert out.shape == (2, 24, 9, 10)
    out.square().mean().backward()
    # DDP stops at a parameter without a gradient.
    assert [name for name, p in block.named_parameters() if p.grad is None] == []


def test_c2f_mixer_dual_is_c2fdual():
    dual, mixer = C2fDual(16, 24, n=2), C2fMixer(16, 24, n=2, mixer="dual")
    mixer.load_state_dict(dual.state_dict())
    x = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(mixer.eval()(x), dual.eval()(x), rtol=0, atol=0)


def test_a_mixer_row_in_a_yaml(tmp_path):
    from dualvit.yolo.patches import find_yaml

    rows = find_yaml("yolov8n-c2fdual.yaml").read_text()
    file = tmp_path / "yolov8n-outlook.yaml"
    file.write_text(rows.replace("C2fDual, [512]", "C2fMixer, [512, outlook]"))
    model = YOLO(file).model
    assert [type(m.m[0].mixer).__name__ for m in model.modules() if type(m) is C2fMixer] == ["OutlookMixer"]
    file.write_text(rows.replace("C2fDual, [512]", "C2fMixer, [512, outlok]"))
    with pytest.raises(ValueError, match="outlook"):
        YOLO(file)


def test_c2fdual_batch_equals_single():
    block = C2fDual(8, 16).eval()
    x = torch.randn(3, 8, 12, 20)
    with torch.no_grad():
        together, alone = block(x), torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_channels_and_repeats_follow_c2f():
    model = YOLO("yolov8s-c2fdual.yaml").model
    rows = [m for m in model.model if isinstance(m, C2fDual)]
    assert [m.cv2.conv.out_channels for m in rows] == [256, 512]
    assert [len(m.m) for m in rows] == [2, 1]


def test_in_channels_of_the_data_reach_the_stem():
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov8n-dualvit.yaml", ch=1, nc=3, verbose=False)
    assert next(model.parameters()).shape[1] == 1
