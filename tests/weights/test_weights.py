"""Checkpoints: each published form loads bit for bit, and is converted."""

import argparse
import hashlib
import os

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch.testing import assert_close

from dualvit.models import dual_vit, dual_vit_small, pvt, region_vit
from dualvit.models.published import native_name
from dualvit.weights import (
    CheckpointError,
    convert,
    identify,
    load_backbone,
    read_checkpoint,
    sha256,
)
from dualvit.weights.match import compare_keys

CONFIGS = dual_vit_small.CONFIGS | dual_vit.CONFIGS
NAME = "dualvit_n"

# ---- names


@pytest.mark.parametrize("name", list(CONFIGS))
def test_published_names_map_back_to_ours(name, published_name):
    with torch.device("meta"):
        own = list(timm.create_model(name).state_dict())
    assert [native_name(published_name(key)) for key in own] == own
    assert len({published_name(key) for key in own}) == len(own)


def test_our_reverse_table_gives_the_published_manifest(golden, published_name):
    with torch.device("meta"):
        own = timm.create_model("dualvit_s").state_dict()
    assert {published_name(key) for key in own} == set(golden.state_dict("dualvit_s"))


# ---- every form, through every way in


def test_checkpoint_path(files, state, form, assert_same):
    assert_same(timm.create_model(NAME, checkpoint_path=str(files / form)), state)


def test_pretrained_file(files, state, form, assert_same):
    overlay = {"file": str(files / form)}
    assert_same(timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay), state)


def test_pretrained_features(files, state, form, assert_same):
    overlay = {"file": str(files / form)}
    model = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True)
    assert_same(model, state, "model.")


def test_pretrained_for_other_classes(files, state, form, assert_same):
    """All but the heads are the file's; both heads are new, for 7 classes."""
    overlay = {"file": str(files / form)}
    model = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=7)
    assert model.head.out_features == model.aux_head.out_features == 7
    del model.head, model.aux_head
    assert_same(model, state)


def test_read_checkpoint(files, state, form):
    found = read_checkpoint(files / form)
    assert set(found) == set(state)
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("scalar", [np.float64(84.1), np.float32(84.1)], ids=["float64", "float32"])
def test_a_numpy_score_is_let_through(state, tmp_path, scalar, assert_same, published):
    path = tmp_path / "best.pth.tar"
    torch.save({"state_dict": published(state), "metric": scalar, "args": argparse.Namespace()}, path)
    assert set(read_checkpoint(path)) == set(state)
    report, name, _ = convert(path, tmp_path / "best.safetensors")
    assert (report.loaded, name) == (len(state), NAME)
    assert_same(timm.create_model(NAME, checkpoint_path=str(tmp_path / "best.safetensors")), state)


def test_the_papers_own_small_model(golden, tmp_path, assert_same):
    """The published layout of S itself, values made by formula, through a file."""
    filled = {name: torch.from_numpy(value) for name, value in golden.state_dict("dualvit_s").items()}
    torch.save({"state_dict": filled}, tmp_path / "s.pth.tar")
    model = timm.create_model("dualvit_s", checkpoint_path=str(tmp_path / "s.pth.tar"))
    assert_same(model, {native_name(name): value for name, value in filled.items()})
    (tmp_path / "s.pth.tar").unlink()


# ---- reports


def test_load_backbone_leaves_the_heads_out_by_name(files, state, assert_same):
    model = timm.create_model(NAME, features_only=True).model
    report = load_backbone(model, files / "trainer.pth.tar", timm.create_model(NAME))
    assert_same(model, state)
    assert report.loaded == report.total == len(model.state_dict())
    heads = {name for name in state if name.split(".")[0] in ("head", "aux_head", "class_block", "norm")}
    assert set(report.left_out) == heads
    assert report.loaded + len(report.left_out) == len(state)
    assert report.missing == report.unexpected == ()
    assert f"({len(report.left_out)} of the heads left out)" in str(report)


def test_load_backbone_of_the_papers_kind_leaves_the_last_semantic_ffn_out(tmp_path, assert_same, published):
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


def test_compare_keys_counts_other_shapes_on_both_sides(state, tmp_path):
    given = {**state, "norm.weight": torch.zeros(3), "extra": torch.zeros(1)}
    report = compare_keys(timm.create_model(NAME).state_dict(), given, tmp_path)
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


def test_convert(files, state, tmp_path, form, assert_same):
    target = tmp_path / "new folder" / "out.safetensors"
    report, name, digest = convert(files / form, target)
    assert name == NAME
    assert str(report).startswith(f"{len(state)} of {len(state)} ")
    assert digest == sha256(target) == hashlib.sha256(target.read_bytes()).hexdigest()
    assert_same(timm.create_model(NAME, checkpoint_path=str(target)), state)
    assert [file.name for file in target.parent.iterdir()] == ["out.safetensors"]


def test_converting_again_gives_the_same_file(files, tmp_path):
    target = tmp_path / "again.safetensors"
    digests = {convert(files / "plain.pth", target)[2] for _ in range(6)}
    assert len(digests) == 1
    with safetensors.safe_open(target, "pt") as file:
        assert file.metadata() == {
            "format": "pt", "architecture": NAME, "num_classes": "1000", "source": "plain.pth",
        }  # fmt: skip


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


def test_a_source_is_not_written_over(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")
    (tmp_path / "link.safetensors").symlink_to(file)
    for target in (file, tmp_path / "link.safetensors"):
        with pytest.raises(CheckpointError, match=r"it is the source itself; give another name"):
            convert(file, target)
    assert file.read_bytes() == b"weights"
