"""What timm and its users expect of a model, for each of our names."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import dualvit
from dualvit.models import dual_vit, dual_vit_small
from dualvit.models.dual_vit_small import SmallDualViT
from dualvit.weights.starts import start_file

CONFIGS = dual_vit_small.CONFIGS | dual_vit.CONFIGS
NAMES = list(CONFIGS)
SOURCE = Path(dualvit.__file__).parent


def fresh(code, *options):
    """Run code in a fresh interpreter, which must succeed; return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- registration and import


def test_all_names_are_registered_with_timm():
    assert NAMES == ["dualvit_n", "dualvit_t", "dualvit_s", "dualvit_b", "dualvit_l"]
    assert set(NAMES) == set(timm.list_models("dualvit*"))
    assert timm.list_models("dualvit*", pretrained=True) == ["dualvit_n.start", "dualvit_t.start"]


@pytest.mark.parametrize("name", ["dualvit_n", "dualvit_t"])
def test_the_start_in_the_package_is_a_tag_of_timm(name):
    model = timm.create_model(f"{name}.start", pretrained=True, num_classes=3)
    shipped = load_file(start_file(name))
    state = model.state_dict()
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in shipped.items())
    assert state["head.weight"].shape[0] == 3
    features = timm.create_model(f"{name}.start", pretrained=True, features_only=True)
    assert torch.equal(features.state_dict()["model.stem.conv.0.weight"], state["stem.conv.0.weight"])
    assert not torch.equal(timm.create_model(name).state_dict()["stem.conv.0.weight"], state["stem.conv.0.weight"])


def test_a_damaged_start_is_refused(tmp_path):
    weights = load_file(start_file("dualvit_n"))
    weights.pop("seed.gate.0.weight")
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(RuntimeError, match=r"seed\.gate\.0\.weight"):
        timm.create_model("dualvit_n.start", pretrained=True, pretrained_cfg_overlay={
            "file": str(tmp_path / "less.safetensors")
        })  # fmt: skip


def test_import_brings_nothing_optional_and_no_future_warning():
    modules = fresh("import dualvit, sys; print(*sys.modules)", "-W", "error::FutureWarning").split()
    assert "timm" in modules
    optional = {"ultralytics", "sklearn", "transformers", "cloudpickle", "onnx", "pandas", "lightning", "matplotlib"}
    assert not optional & set(modules)


def imports_of(file):
    """All modules that a file imports, wherever in the file, as absolute names."""
    package = ("dualvit", *file.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


# ---- forward and backward


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name, image):
    """With one block of each kind; the whole depth of the paper's sizes is in test_golden.py."""
    depths = (1, 1, 2, 1) if name in NAMES[2:] else CONFIGS[name].depths
    model = timm.create_model(name, num_classes=7, drop_path_rate=0.0, depths=depths).train()
    out = model(image(64, 64))
    assert out.shape == (2, 7)
    assert out.isfinite().all()
    out.square().mean().backward()
    norms = {n: torch.zeros(()) if p.grad is None else p.grad.norm() for n, p in model.named_parameters()}
    assert not [n for n, norm in norms.items() if not norm.isfinite() or norm == 0]


@pytest.mark.parametrize("name", NAMES)
def test_meta_build_knows_its_config(name):
    model = timm.create_model(name, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.pretrained_cfg["architecture"] == name
    assert model.pretrained_cfg["input_size"] == (3, 224, 224)
    assert model.num_classes == 1000
    assert model.num_features == model.head_hidden_size == CONFIGS[name].dims[-1]
    modules = dict(model.named_modules())
    assert model.pretrained_cfg["first_conv"] in modules
    assert all(part in modules for part in model.pretrained_cfg["classifier"])


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (112, 448), (128, 448), (224, 224)])
def test_sizes(dual, size, image):
    """Multiples of 32, and 112x448: its maps have 28, 14, 7 and 4 rows."""
    model, picture = dual(), image(*size, batch=1)
    assert model(picture).shape == (1, 10)
    maps = model.forward_intermediates(picture, intermediates_only=True)
    expected = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert [tuple(out.shape[2:]) for out in maps] == expected


def test_nano_takes_800x1344(nano, image):
    with torch.no_grad():
        out = nano()(image(800, 1344, batch=1))
    assert out.isfinite().all()


def test_training_mode_with_drop_path_and_dropout_is_finite(paper, image):
    model = paper(drop_path_rate=0.3, drop_rate=0.2).train()
    assert model(image(64, 64)).isfinite().all()
    assert model.head_drop.p == 0.2


def test_drop_path_rises_linearly_over_all_blocks(paper):
    model = paper(drop_path_rate=0.3)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.3 * i / 5 for i in range(6)], abs=1e-6)


def test_a_batch_equals_its_images(dual, image):
    model, batch = dual(), image(96, 64, batch=3)
    with torch.no_grad():
        assert_close(model(batch), torch.cat([model(one[None]) for one in batch]), rtol=1e-4, atol=1e-5)


# ---- the semantic grid


@pytest.mark.parametrize(("size", "cells"), [((32, 32), 1), ((96, 64), 3 * 2), ((128, 448), 4 * 16), ((224, 224), 64)])
def test_the_papers_grid_grows_with_the_image(size, cells, paper, image):
    assert paper().begin(image(*size))[1].shape == (2, cells, 32)


@pytest.mark.parametrize("size", [(112, 448), (128, 448)])
def test_64_cells_on_another_grid_are_resampled(size, paper, image):
    """4x16 cells: the queries are resampled by shape, which the published code forgets there."""
    model = paper()
    seen = {}
    model.seed.query_norm.register_forward_pre_hook(lambda _m, i: seen.update(queries=i[0]))
    model.begin(image(*size, batch=1))
    grid = model.seed.queries.T.reshape(1, 32, 8, 8)
    resampled = torch.nn.functional.interpolate(grid, (4, 16), mode="bicubic", align_corners=False)
    assert_close(seen["queries"], resampled.flatten(2).mT)
    assert not torch.allclose(seen["queries"][0], model.seed.queries, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (128, 448)])
def test_a_fixed_grid_stays(size, paper, image):
    assert paper(semantic_grid=(8, 8)).begin(image(*size))[1].shape == (2, 64, 32)


def test_fixed_8x8_equals_the_papers_grid_at_224(paper, image):
    grown, fixed, picture = paper(), paper(semantic_grid=(8, 8)), image(224, 224, batch=1)
    fixed.load_state_dict(grown.state_dict())
    with torch.no_grad():
        assert_close(grown(picture), fixed(picture), rtol=1e-4, atol=1e-5)


# ---- features


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2, 3), (1, 2), (3,)])
def test_features_only(dual, indices, image):
    whole = dual()
    features = dual(features_only=True, out_indices=indices)
    loaded = features.load_state_dict({f"model.{k}": v for k, v in whole.state_dict().items()}, strict=False)
    assert not loaded.missing_keys
    channels = features.feature_info.channels()
    assert features.feature_info.reduction() == [4 * 2**i for i in indices]
    picture = image(96, 64)
    maps = features(picture)
    expected = whole.forward_intermediates(picture, indices=list(indices), intermediates_only=True)
    for out, same, dim, stride in zip(maps, expected, channels, features.feature_info.reduction(), strict=True):
        assert out.shape == (2, dim, 96 // stride, 64 // stride)
        assert_close(out, same, rtol=1e-5, atol=1e-5)
    sum(out.mean() * out.square().mean() for out in maps).backward()
    assert not [name for name, parameter in features.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", NAMES)
def test_feature_info(name):
    with torch.device("meta"):
        info = timm.create_model(name, features_only=True).feature_info
    assert info.channels() == list(CONFIGS[name].dims)
    assert info.reduction() == [4, 8, 16, 32]
    assert info.module_name() == [f"stages.{i}" for i in range(4)]


def test_intermediates_agree_with_forward_features(dual, image):
    model, picture = dual(), image(96, 64)
    final, maps = model.forward_intermediates(picture)
    features = model.forward_features(picture)
    assert features.shape == (2, 1 + 3, 2, model.num_features)
    assert torch.equal(final, features)
    last = maps[-1].permute(0, 2, 3, 1)
    normed = model.norm(last) if isinstance(model, SmallDualViT) else last  # N and T hand their maps out without it
    assert torch.equal(normed, features[:, 1:])
    nhwc = model.forward_intermediates(picture, output_fmt="NHWC", intermediates_only=True)
    for one, other in zip(maps, nhwc, strict=True):
        assert torch.equal(one, other.permute(0, 3, 1, 2))
    last_two = model.forward_intermediates(picture, indices=2, intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(last_two, maps[2:], strict=True))
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(picture, output_fmt="NLC")


def test_stop_early_runs_no_later_stage(dual, image):
    model, picture = dual(), image(64, 64)
    expected = model.forward_intermediates(picture, indices=[0, 1], intermediates_only=True)
    ran = []
    model.stages[2].register_forward_pre_hook(lambda *_: ran.append(2))
    early = model.forward_intermediates(picture, indices=[0, 1], stop_early=True, intermediates_only=True)
    assert not ran
    assert all(torch.equal(one, other) for one, other in zip(early, expected, strict=True))


# ---- heads


def test_forward_is_features_then_head(dual, image):
    model, picture = dual(), image(64, 64)
    features = model.forward_features(picture)
    assert torch.equal(model.forward_head(features), model(picture))
    pooled = model.forward_head(features, pre_logits=True)
    assert torch.equal(pooled, features[:, 0, 0])
    assert torch.equal(features[:, 0, 0], features[:, 0, -1])
    tokens = model.aux_head(features[:, 1:].flatten(1, 2))
    assert_close(model(picture), model.head(pooled) + 0.5 * tokens.amax(1))


def test_average_pooling_and_none(paper, image):
    model, picture = paper(global_pool="avg"), image(64, 64)
    features = model.forward_features(picture)
    assert_close(model.forward_head(features, pre_logits=True), features[:, 1:].mean((1, 2)))
    assert model(picture).shape == (2, 10)
    model.reset_classifier(0, "")
    assert torch.equal(model(picture), features)
    with pytest.raises(ValueError, match="global_pool"):
        model.reset_classifier(3, "max")


def test_reset_classifier_and_num_classes_0(paper, image):
    model, picture = paper(), image(64, 64)
    pooled = model.forward_head(model.forward_features(picture), pre_logits=True)
    assert model.get_classifier() == (model.head, model.aux_head)
    model.reset_classifier(0)
    assert torch.equal(model(picture), pooled)
    assert model.aux_head is None
    assert model.num_classes == 0
    model.reset_classifier(5)
    assert model(picture).shape == (2, 5)
    assert model.num_classes == model.aux_head.out_features == 5
    assert paper(num_classes=0)(picture).shape == (2, 128)


def test_without_token_labels(paper, image):
    """No token-labelling head; a checkpoint that has one still loads, and the class logits are the same."""
    plain, whole, picture = paper(token_label=False), paper(), image(64, 64)
    assert plain.aux_head is None
    assert plain.get_classifier() is plain.head
    assert not [name for name in plain.state_dict() if name.startswith("aux_head")]
    plain.load_state_dict(whole.state_dict())
    assert torch.equal(plain(picture), whole.head(whole.forward_features(picture)[:, 0, 0]))


def test_without_token_labels_a_published_checkpoint_loads(golden):
    state = {name: torch.from_numpy(value) for name, value in golden.state_dict("dualvit_s").items()}
    with torch.device("meta"):
        model = timm.create_model("dualvit_s", token_label=False)
    model.load_state_dict(state, assign=True)
    assert torch.equal(model.head.weight, state["head.weight"])


@pytest.mark.parametrize("channels", [1, 4])
def test_in_chans(channels, paper):
    assert paper(in_chans=channels)(torch.randn(1, channels, 64, 64)).shape == (1, 10)


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="depth_of_field"):
        timm.create_model("dualvit_n", depth_of_field=3)


def test_channels_that_heads_do_not_divide_are_an_error(paper):
    with pytest.raises(ValueError, match="multiple of 32"):
        paper(dims=(32, 48, 96, 128))
