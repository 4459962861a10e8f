"""RegionViT and PVT against what their papers' own code answered for the same weights (shared/golden)."""

import json

import numpy as np
import pytest
import timm
import torch
from torch.testing import assert_close

import dualvit  # noqa: F401
from dualvit.models import pvt, region_vit

RECORDED = ["regionvit_tiny", "regionvit_small", "regionvit_medium", "regionvit_base", "pvt_tiny", "pvt_small"]
MILLIONS = {
    "regionvit_tiny": 13.8,
    "regionvit_small": 30.6,
    "regionvit_medium": 41.2,
    "regionvit_base": 72.7,
    "pvt_tiny": 13.2,
    "pvt_small": 24.5,
    "pvt_medium": 44.2,
    "pvt_large": 61.4,
}


def published(golden, name):
    return {key: torch.from_numpy(value) for key, value in golden.state_dict(name).items()}


def loaded(golden, name):
    with torch.device("meta"):  # every value comes from the file, so none is initialised
        model = timm.create_model(name).eval()
    model.load_state_dict(published(golden, name), strict=True, assign=True)
    return model


@pytest.mark.parametrize("name", RECORDED)
@torch.no_grad()
def test_each_recorded_array(golden, shared, name):
    model, compared = loaded(golden, name), 0
    with np.load(shared / "golden" / f"{name}.npz") as file:
        for key in file.files:
            kind, shape = key.rsplit("_", 1)
            picture = torch.from_numpy(golden.image(*map(int, shape.split("x"))))
            if kind == "logits":
                ours = model(picture)
            else:
                level = int(kind.removeprefix("feature"))
                (ours,) = model.forward_intermediates(picture, [level], stop_early=True, intermediates_only=True)
            theirs = torch.from_numpy(file[key])
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), key
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", RECORDED)
def test_each_published_name_is_one_of_ours(shared, name):
    manifest = json.loads((shared / "golden" / f"{name}.json").read_text())
    layout = (region_vit if name.startswith("regionvit") else pvt).LAYOUT
    native = layout.to_native({key: torch.empty(shape, device="meta") for key, shape in manifest.items()})
    with torch.device("meta"):
        own = timm.create_model(name).state_dict()
    assert {key: value.shape for key, value in native.items()} == {key: value.shape for key, value in own.items()}
    twins = [key for key in manifest if ".proj_cls." in key]
    assert len(manifest) - len(own) == len(twins) == (12 if name.startswith("regionvit") else 0)


@pytest.mark.parametrize("name", MILLIONS)
def test_published_parameter_counts(name):
    model = timm.create_model(name, device="meta")
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == MILLIONS[name]


@pytest.mark.parametrize("name", ["regionvit_tiny", "pvt_tiny"])
def test_published_files_load_through_timm(golden, tmp_path, name):
    """As the papers' code saves them, under `model`; other classes leave the rest in place."""
    state = published(golden, name)
    torch.save({"model": state}, tmp_path / "published.pth")
    model = timm.create_model(name, checkpoint_path=str(tmp_path / "published.pth")).eval()
    picture = torch.from_numpy(golden.image(1, 64, 96))
    with torch.no_grad():
        assert_close(model(picture), loaded(golden, name)(picture))
    assert torch.equal(model.head.weight, state["head.weight"])


def test_weights_of_another_size_raise_one_clear_line(golden):
    with pytest.raises(ValueError, match="checkpoint of another model") as error:
        timm.create_model("regionvit_small", device="meta").load_state_dict(published(golden, "regionvit_tiny"))
    assert "\n" not in str(error.value)


def test_pvt_maps_are_those_without_the_class_token(golden):
    model = loaded(golden, "pvt_tiny")
    picture = torch.from_numpy(golden.image(1, 64, 96))
    with torch.no_grad():
        maps = model.forward_intermediates(picture, intermediates_only=True)
        model.cls_token = None
        assert torch.equal(model.forward_intermediates(picture, intermediates_only=True)[3], maps[3])
        assert_close(model.finish(maps[3].permute(0, 2, 3, 1), None), model.forward_features(picture))


@pytest.mark.parametrize("size", [(8, 8), (14, 28), (56, 56)])
def test_positions_are_resampled_by_shape(size):
    positions = torch.randn(1, 14 * 14, 3)
    out = pvt.resample_positions(positions, 14, torch.empty(2, *size, 3))
    grid = positions.view(1, 14, 14, 3)
    assert out.shape == (1, *size, 3)
    if size == (14, 28):  # each column twice, at a quarter and three quarters between its neighbours
        assert_close(out[:, :, 1], 0.75 * grid[:, :, 0] + 0.25 * grid[:, :, 1])
    assert torch.equal(pvt.resample_positions(positions, 14, grid), grid)


def test_region_windows_fit_as_in_the_middle_of_a_larger_image(golden):
    """At 224 nothing is padded; at 256 the padding must leave finite, batch-independent maps of the right size."""
    model = loaded(golden, "regionvit_tiny")
    batch = torch.from_numpy(golden.image(2, 256, 96))
    with torch.no_grad():
        assert model.forward_features(batch).shape == (2, 2, 1, 512)  # 10x4, 5x2, 3x1, 2x1 windows
        assert_close(model(batch), torch.cat([model(one[None]) for one in batch]), rtol=1e-4, atol=1e-4)
