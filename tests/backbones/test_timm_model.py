"""Backbone plans: which maps, which options, whose names."""

import pytest
import timm
import torch

from dualvit.backbones.timm_model import as_maps, layer_ids, never_decayed, plan_backbone
from dualvit.weights.match import full_names


@pytest.mark.parametrize(
    ("name", "channels", "channels_last", "options"),
    [
        ("dualvit_n", (64, 96, 160), False, {}),
        ("resnet18", (128, 256, 512), False, {}),
        ("pvt_v2_b0", (64, 160, 256), False, {}),
        (
            "swin_tiny_patch4_window7_224",
            (192, 384, 768),
            True,
            {"strict_img_size": False, "always_partition": True},
        ),
    ],
)
def test_plans(name, channels, channels_last, options):
    plan = plan_backbone(name)
    assert (plan.channels, plan.channels_last, plan.options) == (channels, channels_last, options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("swin_tiny_patch4_window7_244", {}, "did you mean swin_tiny_patch4_window7_224"),
        ("vit_tiny_patch16_224", {}, "'vit_tiny_patch16_224' has no map at stride 8.*resnet18"),
        ("maxvit_nano_rw_256", {}, r"does not take images of any size \(height \(12\) must be divisible by window"),
        ("hiera_tiny_224", {}, "'hiera_tiny_224' does not take images of any size.*swin_tiny"),
        ("resnet18", {"mixer": "outlook"}, "'resnet18' does not take the option 'mixer'"),
        ("hrnet_w18_small", {"drop_path_rate": 0.1}, "does not take the option 'drop_path_rate'"),
        ("resnet18", {"pretrained": True}, "'pretrained' cannot be set: nothing is downloaded"),
        ("resnet18", {"norm_layer": torch.nn.BatchNorm2d}, "do not fit a YAML; give numbers"),
        ("resnet18", {"in_chans": 4}, "'in_chans' cannot be set: it follows from the data"),
    ],
)
def test_what_cannot_be_a_backbone_is_one_line(name, options, words):
    with pytest.raises(ValueError, match=words) as error:
        plan_backbone(name, options)
    assert "\n" not in str(error.value)


def test_an_option_asked_for_wins_over_the_plans_own():
    plan = plan_backbone("swin_tiny_patch4_window7_224", {"always_partition": False})
    assert plan.options == {"strict_img_size": False, "always_partition": False}


# One model for each way in which timm builds an extractor: a list, a getter, hooks, a class of its own.
EXTRACTORS = ["convnext_atto", "pvt_v2_b0", "xception41", "hrnet_w18_small", "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_names_lead_to_the_same_shapes_in_the_whole_network(name):
    plan = plan_backbone(name)
    with torch.device("meta"):
        features = plan.build()
    own, whole = features.state_dict(), plan.full_network().state_dict()
    names = full_names(features, plan.full_network())
    assert set(names) == set(own)
    assert len(set(names.values())) == len(names)
    assert all(whole[names[key]].shape == value.shape for key, value in own.items())


def test_layers_rise_from_the_stem_and_end_at_the_last_map():
    plan = plan_backbone("convnext_atto")
    with torch.device("meta"):
        features = plan.build()
    ids = layer_ids(features, plan.full_network())
    assert set(ids) == set(dict(features.named_parameters()))
    assert sorted(set(ids.values())) == list(range(max(ids.values()) + 1))
    assert ids["stem_0.weight"] == 0
    assert ids["stages_3.blocks.1.norm.weight"] == max(ids.values())


def test_position_tables_are_exempt_from_weight_decay():
    plan = plan_backbone("swin_tiny_patch4_window7_224")
    with torch.device("meta"):
        exempt = never_decayed(plan.build(), plan.full_network())
    assert len(exempt) == 12
    assert all(name.endswith("relative_position_bias_table") for name in exempt)


def test_swin_takes_any_size_and_equals_itself_at_its_own():
    """The same weights in timm's plain Swin, of the size for which it is built, give the same maps."""
    options = {"embed_dim": 24, "depths": [1, 1, 2, 1], "always_partition": False}
    features = plan_backbone("swin_tiny_patch4_window7_224", options).build().eval()
    plain = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, out_indices=(1, 2, 3), embed_dim=24, depths=[1, 1, 2, 1]
    ).eval()
    plain.load_state_dict(features.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(as_maps(features(x), True), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2), rtol=0, atol=1e-6)
        assert [tuple(m.shape[2:]) for m in as_maps(features(torch.randn(2, 3, 64, 96)), True)] == [
            (8, 12),
            (4, 6),
            (2, 3),
        ]
