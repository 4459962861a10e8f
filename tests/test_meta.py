"""Networks without values have the names, shapes and types of those with values."""

import pytest
import timm
import torch

import dualvit  # noqa: F401
from dualvit.meta import on_meta


def described(model):
    return [(name, value.shape, value.dtype) for name, value in model.state_dict().items()]


@pytest.mark.parametrize("name", ["dualvit_n", "pvt_tiny", "regionvit_tiny", "swin_tiny_patch4_window7_224"])
def test_names_shapes_and_types_are_those_of_a_network_with_values(name):
    with on_meta():
        model = timm.create_model(name)
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}
    assert described(model) == described(timm.create_model(name))


def test_what_has_values_is_changed_all_the_same():
    with on_meta():
        tensor = torch.zeros(3, device="cpu").add_(2.0)
        bias = torch.nn.init.constant_(torch.zeros(2, device="cpu"), 0.5)
    assert tensor.tolist() == [2.0] * 3
    assert bias.tolist() == [0.5] * 2
