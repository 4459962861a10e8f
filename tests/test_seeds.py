"""Digests of nested tensors: the same for the same values, of any kind and layout."""

import pytest
import torch

from dualvit.seeds import digest


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_values_and_not_layout_decide(kind):
    values = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(kind)
    assert digest(values) == digest(values.t().contiguous().t()) == digest({"a": [values]})
    assert digest(values) != digest(values.t())


def test_odd_tensors():
    """One element of stride 0, as an expanded label is; none; no dimension; and what needs a gradient."""
    expanded = torch.tensor([7]).expand(1, 1)[:, :1].squeeze(0)
    assert digest(torch.tensor(7).expand(1)) == digest(torch.tensor([7])) == digest(expanded) == digest(torch.tensor(7))
    assert digest(torch.zeros(0, 4)) == digest([]) != digest(torch.zeros(1))
    assert digest(torch.ones(2, requires_grad=True)) == digest((torch.ones(2), "a word", None))
