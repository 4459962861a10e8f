"""Checkpoints: each published form loads bit for bit, and nothing that is broken or hostile does harm."""

import argparse
import hashlib
import os
import re

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch.testing import assert_close

from dualvit.models import pvt, region_vit
from dualvit.models.dual_vit import CONFIGS
from dualvit.models.published import native_name
from dualvit.weights import (
    CheckpointError,
    compare_keys,
    convert,
    identify,
    load_backbone,
    load_weights,
    read_checkpoint,
    sha256,
)

NAME = "dualvit_n"

# The published names for ours: the reverse of `native_name`, written down on its own.
PUBLISHED = (
    (r"^seed\.queries$", "q"),
    (r"^seed\.query_norm\.", "q_embed.0."),
    (r"^seed\.query_proj\.", "q_embed.1."),
    (r"^seed\.kv\.", "kv."),
    (r"^seed\.norm\.", "proxy_ln."),
    (r"^seed\.gate\.", "se."),
    (r"^stem\.", "patch_embed1."),
    (r"^stages\.(\d)\.downsample\.semantic_proj\.", "proxy_embed{}.proj_proxy.0."),
    (r"^stages\.(\d)\.downsample\.semantic_norm\.", "proxy_embed{}.proj_proxy.1."),
    (r"^stages\.(\d)\.downsample\.", "patch_embed{}."),
    (r"^stages\.(\d)\.semantic_norm\.", "norm_proxy{}."),
    (r"^stages\.(\d)\.norm\.", "norm{}."),
    (r"^stages\.(\d)\.blocks\.", "block{}."),
    (r"^norm\.", "norm4."),
    (r"^class_block\.", "post_network.0."),
    (r"\.semantic_update\.norm1\.", ".attn.qkv_proxy.0."),
    (r"\.semantic_update\.self_attention\.qkv\.", ".attn.qkv_proxy.1."),
    (r"\.semantic_update\.norm2\.", ".attn.q_proxy_ln."),
    (r"\.semantic_update\.cross_attention\.q\.", ".attn.q_proxy."),
    (r"\.semantic_update\.cross_attention\.kv\.", ".attn.kv_proxy."),
    (r"\.semantic_update\.norm3\.", ".attn.p_ln."),
    (r"\.semantic_update\.ffn\.fc1\.", ".attn.mlp_proxy.0."),
    (r"\.semantic_update\.ffn\.fc2\.", ".attn.mlp_proxy.2."),
    (r"\.semantic_update\.scale(\d)\.gamma", r".attn.gamma\1"),
    (r"\.semantic_norm\.", ".attn.proxy_ln."),
    (r"\.attention\.", ".attn."),
    (r"\.scale(\d)\.gamma", r".gamma\1"),
    (r"\.semantic_ffn\.fc1\.", ".mlp.fc_proxy.0."),
    (r"\.semantic_ffn\.fc2\.", ".mlp.fc_proxy.2."),
    (r"\.ffn\.conv\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.", ".mlp."),
)


def published_name(name):
    for pattern, replacement in PUBLISHED:
        if "{}" in replacement:
            name = re.sub(pattern, lambda m, r=replacement: r.format(int(m[1]) + 1), name)
        else:
            name = re.sub(pattern, replacement, name)
    return name


def published(state):
    return {published_name(name): value for name, value in state.items()}


@pytest.fixture(scope="module")
def state():
    """Our names and values of a nano model in which every value differs from a fresh one."""
    torch.manual_seed(1)
    model = timm.create_model(NAME)
    return {name: torch.randn_like(v) if v.is_floating_point() else v + 3 for name, v in model.state_dict().items()}


class Metric:
    """Stands for nothing: a class that a checkpoint must not bring along."""


def save_pth(state, path):
    torch.save(published(state), path)


def save_trainer(state, path):
    """What a training script leaves: optimizer, arguments, and a NumPy scalar for the best score."""
    torch.save(
        {
            "state_dict": published(state),
            "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
            "args": argparse.Namespace(model="dualvit", lr=5e-4),
            "epoch": 309,
            "metric": 84.1,
        },
        path,
    )


def save_ddp(state, path):
    torch.save({"state_dict": {f"module.{name}": v for name, v in published(state).items()}}, path)


def save_safetensors(state, path):
    safetensors.torch.save_file({name: v.contiguous() for name, v in published(state).items()}, path)


def save_native(state, path):
    torch.save(state, path)


FORMS = {
    "plain.pth": save_pth,
    "trainer.pth.tar": save_trainer,
    "ddp.pth": save_ddp,
    "published.safetensors": save_safetensors,
    "native.pth": save_native,
}


@pytest.fixture(scope="module")
def files(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, save in FORMS.items():
        save(state, folder / name)
    return folder


def assert_same(model, state, prefix=""):
    ours = model.state_dict()
    assert ours
    for name, value in ours.items():
        assert torch.equal(value, state[name.removeprefix(prefix)]), name


# ---- names


@pytest.mark.parametrize("name", list(CONFIGS))
def test_published_names_map_back_to_ours(name):
    with torch.device("meta"):
        own = list(timm.create_model(name).state_dict())
    assert [native_name(published_name(key)) for key in own] == own
    assert len({published_name(key) for key in own}) == len(own)


def test_our_reverse_table_gives_the_published_manifest(golden):
    with torch.device("meta"):
        own = timm.create_model("dualvit_s").state_dict()
    assert {published_name(key) for key in own} == set(golden.state_dict("dualvit_s"))


# ---- every form, through every way in


@pytest.mark.parametrize("form", FORMS)
def test_checkpoint_path(files, state, form):
    assert_same(timm.create_model(NAME, checkpoint_path=str(files / form)), state)


@pytest.mark.parametrize("form", FORMS)
def test_pretrained_file(files, state, form):
    overlay = {"file": str(files / form)}
    assert_same(timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay), state)


@pytest.mark.parametrize("form", FORMS)
def test_pretrained_features(files, state, form):
    overlay = {"file": str(files / form)}
    model = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True)
    assert_same(model, state, "model.")


@pytest.mark.parametrize("form", FORMS)
def test_pretrained_for_other_classes(files, state, form):
    """All but the heads are the file's; both heads are new, for 7 classes."""
    overlay = {"file": str(files / form)}
    model = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=7)
    assert model.head.out_features == model.aux_head.out_features == 7
    del model.head, model.aux_head
    assert_same(model, state)


@pytest.mark.parametrize("form", FORMS)
def test_read_checkpoint(files, state, form):
    found = read_checkpoint(files / form)
    assert set(found) == set(state)
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("scalar", [np.float64(84.1), np.float32(84.1)], ids=["float64", "float32"])
def test_a_numpy_score_is_let_through(state, tmp_path, scalar):
    path = tmp_path / "best.pth.tar"
    torch.save({"state_dict": published(state), "metric": scalar, "args": argparse.Namespace()}, path)
    assert set(read_checkpoint(path)) == set(state)
    report, name, _ = convert(path, tmp_path / "best.safetensors")
    assert (report.loaded, name) == (len(state), NAME)
    assert_same(timm.create_model(NAME, checkpoint_path=str(tmp_path / "best.safetensors")), state)


def test_the_papers_own_small_model(golden, tmp_path):
    """The published layout of S itself, values made by formula, through a file."""
    filled = {name: torch.from_numpy(value) for name, value in golden.state_dict("dualvit_s").items()}
    torch.save({"state_dict": filled}, tmp_path / "s.pth.tar")
    model = timm.create_model("dualvit_s", checkpoint_path=str(tmp_path / "s.pth.tar"))
    assert_same(model, {native_name(name): value for name, value in filled.items()})
    (tmp_path / "s.pth.tar").unlink()


# ---- reports


def test_load_weights_reports_all_keys(files, state):
    model = timm.create_model(NAME)
    report = load_weights(model, files / "ddp.pth")
    assert_same(model, state)
    assert (report.loaded, report.total, report.missing, report.unexpected) == (len(state), len(state), (), ())
    assert str(report) == f"{len(state)} of {len(state)} loaded from {files / 'ddp.pth'}"


def test_load_backbone_leaves_the_heads_out_by_name(files, state):
    model = timm.create_model(NAME, features_only=True).model
    report = load_backbone(model, files / "trainer.pth.tar", timm.create_model(NAME))
    assert_same(model, state)
    assert report.loaded == report.total == len(model.state_dict())
    heads = {name for name in state if name.split(".")[0] in ("head", "aux_head", "class_block")}
    branch = {name for name in state if name.startswith("stages.3.blocks.0.semantic_ffn.")}
    assert set(report.left_out) == heads | branch  # nothing reads the last block's semantics but the class block
    assert report.loaded + len(report.left_out) == len(state)
    assert report.missing == report.unexpected == ()
    assert f"({len(report.left_out)} of the heads left out)" in str(report)


def test_load_backbone_of_the_papers_kind_leaves_the_last_semantic_ffn_out(tmp_path):
    shape = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 1, 2, 2)}
    whole = timm.create_model("dualvit_s", **shape)
    torch.save(published(whole.state_dict()), tmp_path / "small.pth")
    model = timm.create_model("dualvit_s", features_only=True, **shape).model
    report = load_backbone(model, tmp_path / "small.pth", whole)
    assert_same(model, whole.state_dict())
    gone = {name for name in report.left_out if "semantic_ffn" in name}
    assert len(gone) == 4
    assert all(name.startswith("stages.3.blocks.1.") for name in gone)


def test_load_backbone_does_not_hide_other_gaps(state, tmp_path):
    broken = {name: value for name, value in state.items() if not name.startswith("stages.2.blocks.1.")}
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=r"missing: stages\.2\.blocks\.1\."):
        load_backbone(timm.create_model(NAME, features_only=True), tmp_path / "broken.pth", timm.create_model(NAME))


def test_partial_only_when_asked(files, state):
    model = timm.create_model(NAME, num_classes=7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"{len(state) - 4} of {len(state)} loaded"):
        load_weights(model, files / "plain.pth")
    assert_same(model, before)
    report = load_weights(model, files / "plain.pth", partial=True)
    heads = {f"{head}.{leaf}" for head in ("head", "aux_head") for leaf in ("weight", "bias")}
    assert set(report.missing) == set(report.unexpected) == heads
    assert report.loaded == len(state) - 4
    assert "4 missing" in str(report)
    assert_same(model, {**state, **{name: before[name] for name in heads}})


def test_compare_keys_counts_other_shapes_on_both_sides(state, tmp_path):
    given = {**state, "norm.weight": torch.zeros(3), "extra": torch.zeros(1)}
    report = compare_keys(timm.create_model(NAME), given, tmp_path)
    assert report.missing == ("norm.weight",)
    assert set(report.unexpected) == {"norm.weight", "extra"}


RIVALS = [*region_vit.CONFIGS, *pvt.CONFIGS]


@pytest.mark.parametrize("name", [*CONFIGS, *RIVALS])
def test_identify(name):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=3).state_dict()
    assert identify(state) == name


def test_identify_needs_all_stages_and_nothing_else(state):
    assert identify({key: value for key, value in state.items() if key.startswith("stages.")}) == NAME
    assert identify({key: value for key, value in state.items() if not key.startswith("stages.1.")}) is None
    assert identify({}) is None


# ---- conversion


@pytest.mark.parametrize("name", ["regionvit_tiny", "pvt_tiny"])
def test_a_rivals_published_file_is_converted_and_read_into_a_backbone(golden, tmp_path, name):
    published = {key: torch.from_numpy(value) for key, value in golden.state_dict(name).items()}
    torch.save({"model": published}, tmp_path / "published.pth")
    report, found, _ = convert(tmp_path / "published.pth", tmp_path / "native.safetensors")
    assert found == name
    assert report.loaded == report.total
    whole = timm.create_model(name, checkpoint_path=str(tmp_path / "native.safetensors")).eval()
    backbone = timm.create_model(name, features_only=True).model.eval()
    left_out = {key.split(".")[0] for key in load_backbone(backbone, tmp_path / "published.pth", whole).left_out}
    assert left_out == {"head", "norm"} | ({"cls_token"} if name == "pvt_tiny" else set())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = [model.forward_intermediates(image, intermediates_only=True) for model in (whole, backbone)]
    assert_close(*maps)


@pytest.mark.parametrize("form", FORMS)
def test_convert(files, state, tmp_path, form):
    target = tmp_path / "new folder" / "out.safetensors"
    report, name, digest = convert(files / form, target)
    assert name == NAME
    assert str(report).startswith(f"{len(state)} of {len(state)} ")
    assert digest == sha256(target) == hashlib.sha256(target.read_bytes()).hexdigest()
    assert_same(timm.create_model(NAME, checkpoint_path=str(target)), state)
    assert [file.name for file in target.parent.iterdir()] == ["out.safetensors"]


def test_convert_keeps_another_class_count_and_channels(tmp_path):
    model = timm.create_model(NAME, num_classes=5, in_chans=1, token_label=False)
    torch.save(model.state_dict(), tmp_path / "five.pth")
    report, name, _ = convert(tmp_path / "five.pth", tmp_path / "five.safetensors")
    assert (report.loaded, report.total, name) == (len(model.state_dict()), len(model.state_dict()), NAME)
    with safetensors.safe_open(tmp_path / "five.safetensors", "pt") as file:
        assert file.metadata()["num_classes"] == "5"
        assert file.metadata()["architecture"] == NAME


def test_convert_refuses_another_suffix(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"end its name in \.safetensors"):
        convert(files / "plain.pth", tmp_path / "out.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", ["truncated", "other network", "gap", "disk full"])
def test_a_failed_conversion_leaves_the_target_as_it_was(files, state, tmp_path, failure, monkeypatch):
    source, target = tmp_path / "in.pth", tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    if failure == "truncated":
        source.write_bytes((files / "plain.pth").read_bytes()[:5000])
    elif failure == "other network":
        torch.save({"fc.weight": torch.zeros(3, 3)}, source)
    elif failure == "gap":
        torch.save({name: value for name, value in state.items() if not name.startswith("seed.gate")}, source)
    else:
        torch.save(state, source)

        def full(_descriptor):
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError if failure == "disk full" else CheckpointError):
        convert(source, target)
    assert target.read_bytes() == b"precious"
    assert not list(tmp_path.glob("*.part"))


# ---- bad input


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(CheckpointError, match="no checkpoint at") as error:
        read_checkpoint(tmp_path / name)
    assert one_line(error)
    with pytest.raises(FileNotFoundError):
        timm.create_model(NAME, checkpoint_path=str(tmp_path / name))


@pytest.mark.parametrize("form", ["plain.pth", "trainer.pth.tar", "published.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(files, tmp_path, form, share):
    whole = (files / form).read_bytes()
    path = tmp_path / form
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="truncated") as error:
        read_checkpoint(path)
    assert one_line(error)
    assert path.name in str(error.value)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(4096)])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_something_else_than_a_checkpoint(tmp_path, content, suffix):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert one_line(error)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": "text"}}])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(tmp_path / "odd.pth")
    assert one_line(error)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside weights"])
def test_code_in_a_pickle_is_not_run(state, tmp_path, legacy, beside):
    victim, path = tmp_path / "written", tmp_path / "hostile.pth"
    content = {"state_dict": published(state), "extra": Hostile(victim)} if beside else Hostile(victim)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="wants to run code") as error:
        read_checkpoint(path)
    assert one_line(error)
    with pytest.raises(RuntimeError):
        timm.create_model(NAME, checkpoint_path=str(path))
    with pytest.raises(CheckpointError):
        convert(path, tmp_path / "out.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["hostile.pth"]


def test_a_foreign_class_in_a_pickle_is_refused(state, tmp_path):
    torch.save({"state_dict": state, "extra": Metric()}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="wants to run code"):
        read_checkpoint(tmp_path / "foreign.pth")


@pytest.mark.parametrize("form", ["plain.pth", "native.pth"])
def test_a_checkpoint_of_another_size_is_named(files, form):
    with pytest.raises(CheckpointError, match=f"it is a checkpoint of {NAME}") as error:
        load_weights(timm.create_model("dualvit_t"), files / form)
    assert one_line(error)
    with pytest.raises(CheckpointError, match=f"it is a checkpoint of {NAME}"):
        load_backbone(timm.create_model("dualvit_t", features_only=True), files / form, timm.create_model("dualvit_t"))
    with pytest.raises(ValueError, match="checkpoint of another model") as error:
        timm.create_model("dualvit_t", checkpoint_path=str(files / form))
    assert one_line(error)


def test_pretrained_without_a_file_raises_and_downloads_nothing(network_attempts):
    before = len(network_attempts)
    with pytest.raises(RuntimeError, match="No pretrained weights exist for dualvit_s"):
        timm.create_model("dualvit_s", pretrained=True)
    assert len(network_attempts) == before


def test_the_guard_of_these_tests_holds(network_attempts):
    import socket

    with pytest.raises(RuntimeError, match="offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert network_attempts.pop() == "192.0.2.1"
