"""A tiny folder of pictures, and a run on it from beginning to end."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 5)):
        for label, low in (("dark", 0), ("bright", 60)):
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(low, low + 190, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def straight(root, tmp_path_factory):
    from tiny_runs import recipe

    from dualvit.recipes import run

    out = tmp_path_factory.mktemp("straight")
    run.fit(recipe(root), out)
    return out
