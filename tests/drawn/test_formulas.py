"""A picture by a formula depends on its arguments alone; classes differ by their formula."""

import numpy as np

from dualvit.drawn.formulas import draw_formula


def draw(label, seed, size=64):
    return np.asarray(draw_formula(label, size, np.random.default_rng(seed)))


def test_the_same_seed_draws_the_same_pixels():
    assert np.array_equal(draw(3, 1), draw(3, 1))
    assert not np.array_equal(draw(3, 1), draw(3, 2))
    assert not np.array_equal(draw(3, 1), draw(4, 1))


def test_pictures_have_the_size_and_something_to_see():
    for label in range(20):
        picture = draw(label, label, 96)
        assert picture.shape == (96, 96, 3)
        assert picture.std() > 10
