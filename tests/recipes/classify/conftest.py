"""A tiny folder of pictures, and recipes on it."""

import numpy as np
import pytest
from PIL import Image


def write_pictures(folder):
    rng = np.random.default_rng(0)
    for split, count in (("train", 22), ("val", 4)):
        for channel, label in ((0, "a"), (2, "b")):
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (48, 56, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    return folder


@pytest.fixture
def root(tmp_path):
    """Forty-four pictures of class a, reddish, and b, bluish, to train on, and four of each to validate."""
    return write_pictures(tmp_path / "data")


@pytest.fixture(scope="session")
def same_pictures(tmp_path_factory):
    """The same in a folder that no test changes."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")
