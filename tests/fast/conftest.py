"""A fixture of the fast classes' tests."""

import pytest
import torch

from dualvit.fast.packed import serves


@pytest.fixture
def bfloat16():
    """The number format, on a CPU that has instructions for it; elsewhere the test is skipped."""
    with torch.no_grad():
        if not serves(torch.empty(1, dtype=torch.bfloat16)):
            pytest.skip("a CPU without bfloat16, or PyTorch without oneDNN")
    return torch.bfloat16
