"""Deletion, insertion and shares of evidence, where they can be worked out by hand."""

import pytest
import torch
from linear import FOUND, SIZE, LinearDetector, bright_view, true_map

from dualvit.errors import InputError
from dualvit.explain.curves import Curves, Evidence, Removal, curves, evidence, inside_of, ranks
from dualvit.explain.subject import View


def noise_map(seed):
    return torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def areas(values, **settings):
    return curves(LinearDetector(), bright_view(), FOUND, values, Removal(**settings)).areas


@pytest.mark.parametrize("baseline", ["blurred", "grey"])
def test_the_true_map_beats_noise_and_noise_beats_its_opposite(baseline):
    deletion, insertion = areas(true_map(), baseline=baseline)
    for seed in range(3):
        random_deletion, random_insertion = areas(noise_map(seed), baseline=baseline)
        assert deletion < random_deletion - 0.2
        assert insertion > random_insertion + 0.2
    wrong_deletion, wrong_insertion = areas(-true_map(), baseline=baseline)
    assert wrong_deletion > random_deletion
    assert wrong_insertion < random_insertion


def test_the_curves_of_a_linear_score_are_straight_until_the_block_is_gone():
    found = curves(LinearDetector(), bright_view(), FOUND, true_map(), Removal(steps=32))
    assert len(found.deletion) == len(found.insertion) == 33
    # The block is a sixteenth of the picture: after 2 of 32 steps it is gone, and the score is the baseline's.
    assert found.deletion[2:] == pytest.approx([found.deletion[-1]] * 31, abs=1e-6)
    assert found.insertion[2:] == pytest.approx([found.insertion[-1]] * 31, abs=1e-6)
    assert found.deletion[1] == pytest.approx((found.deletion[0] + found.deletion[2]) / 2, abs=0.02)
    assert found.deletion[0] == found.insertion[-1]
    assert found.deletion[-1] == found.insertion[0]


def test_areas_of_known_curves():
    assert Curves((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).areas == (1.0, 1.0)
    assert Curves((0.4, 0.2, 0.0), (0.0, 0.8, 0.4)).areas == (0.5, 0.75)  # above the whole picture counts as it
    assert Curves((0.4, 0.2, 0.1), (0.1, 0.2, 0.4)).left == 0.25


def test_the_batch_changes_nothing_and_bounds_the_images_at_once():
    subject, view = LinearDetector(), bright_view()
    small = curves(subject, view, FOUND, noise_map(0), Removal(steps=10, batch=3))
    assert max(subject.network.batches) == 3
    assert sum(subject.network.batches) == Removal(steps=10).passes
    large = curves(subject, view, FOUND, noise_map(0), Removal(steps=10, batch=64))
    assert small.deletion == pytest.approx(large.deletion, abs=1e-6)


def test_equal_values_come_in_a_random_order_that_a_seed_repeats():
    inside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    one, same, other = (ranks(torch.zeros(SIZE, SIZE), inside, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert sorted(one.flatten().tolist()) == pytest.approx([place / SIZE**2 for place in range(SIZE**2)])


def test_what_surrounds_the_picture_is_not_removed():
    view = View(bright_view().images, (0, 4, SIZE, SIZE - 4), (SIZE, SIZE - 8))
    inside = inside_of(view)
    assert not inside[:4].any()
    assert inside[4:-4].all()
    places = ranks(true_map(), inside)
    assert float(places[~inside].min()) > 1
    assert float(places[inside].max()) < 1
    for baseline in ("blurred", "grey"):
        empty = Removal(baseline=baseline).picture(view)
        assert torch.equal(empty[:, :, ~inside], view.images[:, :, ~inside])
        assert float(empty[:, :, inside].std()) < float(view.images[:, :, inside].std())


def test_evidence_is_shared_out_by_the_frame():
    values = torch.zeros(40, 40)
    values[10:30, 10:30] = 1  # the box
    assert evidence(values, (10, 10, 30, 30)) == Evidence(1.0, 0.0, 0.0)
    values[5:10, 5:35] = 1  # in the frame, which begins at 5
    values[0, :10] = 10
    values[39] = -5  # against the object: no evidence
    whole = 400 + 150 + 100
    found = evidence(values, (10, 10, 30, 30))
    assert (found.inside, found.near, found.far) == pytest.approx((400 / whole, 150 / whole, 100 / whole))
    assert evidence(-values.clamp(min=0), (10, 10, 30, 30)) is None


def test_bad_settings_are_refused():
    for settings in ({"steps": 1}, {"batch": 0}, {"baseline": "black"}):
        with pytest.raises(InputError, match="give"):
            Removal(**settings)
