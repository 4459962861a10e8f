"""The generators of randomness that training draws from, seeded together."""

import random

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
