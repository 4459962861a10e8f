"""The models inside other software: smp, transformers, torch.compile, torch.export, autocast."""

import pytest
import timm
import torch
from torch.export import Dim, export
from torch.testing import assert_close

import dualvit  # noqa: F401

PAPER = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 1, 1, 1), "layer_scale": 0.5, "num_classes": 10}
NANO = {"depths": (1, 1, 1, 1), "num_classes": 10}  # a block of each kind: a compiler takes a second for each
BOTH = pytest.mark.parametrize(("name", "kwargs"), [("dualvit_n", {"num_classes": 10}), ("dualvit_s", PAPER)])


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()


# ---- libraries


def test_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch")
    model = smp.Unet("tu-dualvit_s", encoder_weights=None, classes=3, depths=(1, 1, 1, 1))
    masks = model(torch.randn(2, 3, 64, 64))
    assert masks.shape == (2, 3, 64, 64)
    masks.square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def detector(kind, backbone):
    """A small transformers detector on one of our backbones, by name, from its config alone."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(
        backbone=backbone,
        use_timm_backbone=True,
        use_pretrained_backbone=False,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=5,
        num_labels=3,
    )
    return getattr(transformers, f"{kind}ForObjectDetection")(config)


@pytest.mark.parametrize(
    ("kind", "backbone"),
    [("Detr", "dualvit_s"), ("Detr", "dualvit_n"), ("ConditionalDetr", "dualvit_n"), ("DeformableDetr", "dualvit_n")],
)
def test_transformers_detectors(kind, backbone):
    if kind == "Detr":
        pytest.importorskip("scipy")
    model = detector(kind, backbone)
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.3]])}] * 2
    out = model(pixel_values=torch.randn(2, 3, 64, 96), labels=labels)
    assert out.logits.shape[:2] == (2, 5)
    assert out.pred_boxes.shape == (2, 5, 4)
    assert out.loss.isfinite()
    out.loss.backward()
    backbone = {n: p for n, p in model.named_parameters() if "backbone" in n and "stages.1" in n and p.requires_grad}
    assert backbone
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.values())


def test_transformers_backbone_gives_our_maps():
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmBackboneConfig(backbone="dualvit_n", out_indices=[0, 1, 2, 3])
    backbone = transformers.TimmBackbone(config).eval()
    assert backbone.channels == [32, 64, 96, 160]
    image = torch.randn(1, 3, 64, 64)
    expected = backbone._backbone.model.forward_intermediates(image, intermediates_only=True)
    for out, same in zip(backbone(image).feature_maps, expected, strict=True):
        assert torch.equal(out, same)


# ---- compilers


@BOTH
def test_compile_in_one_graph_equals_eager(name, kwargs):
    model = timm.create_model(name, **kwargs).eval()
    image = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_close(compiled(image), model(image), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_compiled_backward_equals_eager():
    model = timm.create_model("dualvit_n", **NANO).eval()
    image, parameters = torch.randn(2, 3, 64, 64), list(model.parameters())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out, plain = compiled(image), model(image)
    assert_close(out, plain, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(out.square().mean(), parameters)
    assert_close(gradients, torch.autograd.grad(plain.square().mean(), parameters), rtol=1e-3, atol=1e-5)


def assert_export_equals_eager(model, program, *shapes):
    for shape in shapes:
        image = torch.randn(shape)
        with torch.no_grad():
            assert_close(program.module()(image), model(image), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), [("dualvit_n", NANO), ("dualvit_s", PAPER)])
def test_export_with_dynamic_batch_height_and_width(name, kwargs):
    model = timm.create_model(name, **kwargs).eval()
    # From 64 pixels up: torch.export takes a map of one row (stage 4 at 32 pixels) for a constant.
    sizes = {0: Dim("batch", max=8), 2: 32 * Dim("rows", min=2, max=40), 3: 32 * Dim("columns", min=2, max=40)}
    program = export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(sizes,))
    assert_export_equals_eager(model, program, (2, 3, 64, 96), (3, 3, 128, 64), (1, 3, 224, 224))


def test_export_with_dynamic_batch():
    model = timm.create_model("dualvit_n", **NANO).eval()
    program = export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=({0: Dim("batch", max=8)},))
    assert_export_equals_eager(model, program, (1, 3, 64, 64), (5, 3, 64, 64))


def test_export_static_and_back_from_a_file(tmp_path):
    model = timm.create_model("dualvit_s", **PAPER).eval()
    torch.export.save(export(model, (torch.randn(1, 3, 96, 64),)), tmp_path / "model.pt2")
    assert_export_equals_eager(model, torch.export.load(tmp_path / "model.pt2"), (1, 3, 96, 64))


# ---- precision


@BOTH
def test_bf16_autocast_is_close(name, kwargs):
    model = timm.create_model(name, **kwargs).eval()
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        plain = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(image).float()
    assert half.isfinite().all()
    assert (half - plain).abs().max() <= 0.05 * plain.abs().max()


@pytest.fixture
def _no_denormals():
    """Denormal numbers take a hundred times as long on a CPU."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_denormals")
def test_200_bf16_steps_stay_finite():
    model = timm.create_model("dualvit_n", **NANO).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    for step in range(200):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.randn(2, 3, 32, 64))
            loss = torch.nn.functional.cross_entropy(logits, torch.randint(10, (2,)))
        assert loss.isfinite(), f"loss is {loss} in step {step}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
