"""The starts in the package: what is shipped loads, says where it comes from, and a wrong one is one line."""

import json

import pytest
import safetensors.torch
import torch

import dualvit
from dualvit.weights import CheckpointError, load_backbone
from dualvit.weights.convert import to_safetensors
from dualvit.weights.read import left_out_of, read_checkpoint
from dualvit.weights.starts import FOLDER, misfit, start_file, start_names, start_trail

SHIPPED = {"dualvit_n": 8, "dualvit_t": 12, "yolov8n-dualvit": 8, "yolov8n-dualvit-seg": 8}  # MB at most
FREE = ("public-domain", "CC0", "CC-BY-1", "CC-BY-2", "CC-BY-3", "CC-BY-4", "MIT", "BSD", "Apache")


def test_the_starts_are_those_of_n_and_t():
    assert start_names() == tuple(SHIPPED)
    assert sum(start_file(name).stat().st_size for name in SHIPPED) < 30e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_small_half_and_says_where_it_comes_from(name):
    file = start_file(name)
    assert file.parent == FOLDER and file.stat().st_size < SHIPPED[name] * 1e6
    state = read_checkpoint(file)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in state.values())
    trail = start_trail(name)
    assert len(trail["teacher"]["sha256"]) == 64 and trail["teacher"]["licence"] == "Apache-2.0"
    assert trail["pictures"] and all(entry["licence"].startswith(FREE) for entry in trail["pictures"])
    assert any("pretrain" in command for command in trail["commands"])
    assert not any(command.count("/tmp") or command.count("/home") for command in trail["commands"])
    assert set(trail["versions"]) == {"dualvit", "torch", "ultralytics"}


@pytest.mark.parametrize("name", [name for name in SHIPPED if "yolo" not in name])
def test_a_shipped_backbone_fills_its_network(name):
    full = dualvit.create_model(name)
    report = load_backbone(full, start_file(name), full)
    absent = left_out_of(start_file(name))
    assert report.matches and report.loaded == len(full.state_dict()) - len(absent)
    state = full.state_dict()
    for entry, value in read_checkpoint(start_file(name)).items():
        torch.testing.assert_close(state[entry], value.to(state[entry].dtype), rtol=0, atol=0)
    maps = dualvit.create_model(name, features_only=True)
    assert load_backbone(maps, start_file(name), full).loaded == len(maps.state_dict())
    assert all(torch.isfinite(one).all() for one in maps.eval()(torch.rand(1, 3, 64, 64)))


def test_entries_that_are_left_out_stay_as_initialised(tmp_path):
    torch.manual_seed(0)
    made, new = (dualvit.create_model("dualvit_n") for _ in range(2))
    state = made.state_dict()
    absent = [name for name in state if name.startswith(made.pretrained_cfg["classifier"])]
    kept = {name: value for name, value in state.items() if name not in absent}
    (tmp_path / "start.safetensors").write_bytes(to_safetensors(kept, {"left_out": json.dumps(absent)}))
    before = {name: value.clone() for name, value in new.state_dict().items()}
    report = load_backbone(new, tmp_path / "start.safetensors", new)
    assert report.loaded == report.total == len(kept)
    for name, value in new.state_dict().items():
        assert torch.equal(value, before[name] if name in absent else kept[name])


def test_no_start_for_another_network_is_one_line():
    with pytest.raises(dualvit.DualViTError, match="no start is shipped for dualvit_s; there are dualvit_n, dualvit_t"):
        start_file("dualvit_s")


def test_a_start_without_a_trail_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("dualvit.weights.starts.FOLDER", tmp_path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"has no licence trail; benchmarks/make_starts.py makes it anew"):
        start_trail("mine")
    assert "(made by dualvit an unknown version) does not fit this network: x" in str(misfit("mine", "x"))
