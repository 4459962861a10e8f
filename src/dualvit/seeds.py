"""The generators of randomness that training draws from, seeded together; and whether two trainings are the same."""

import hashlib
import random
from typing import Any

import numpy as np
import torch


def seed_all(words: str) -> None:
    """Seed Python's, NumPy's and torch's generators with a text.

    Example:
        >>> seed_all("epoch 3, picture 7")
        >>> first = torch.rand(1)
        >>> seed_all("epoch 3, picture 7")
        >>> bool(torch.rand(1) == first)
        True
    """
    number = random.Random(words).getrandbits(32)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def digest(value: Any) -> str:
    """Return the SHA-256 of the tensors in nested lists, tuples and dicts, in order; other values do not count.

    Example:
        >>> digest([torch.zeros(2)]) == digest({"a": torch.zeros(2)}), digest(torch.zeros(2)) == digest(torch.ones(2))
        (True, False)
    """
    total = hashlib.sha256()
    _add(value, total)
    return total.hexdigest()


def _add(value: Any, total: Any) -> None:
    if isinstance(value, torch.Tensor):
        # A clone: of one element or none, a view may keep strides that bytes cannot be read by.
        flat = value.detach().cpu().flatten().clone(memory_format=torch.contiguous_format)
        total.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            _add(one, total)
