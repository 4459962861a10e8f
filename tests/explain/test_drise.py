"""D-RISE finds what a score reads, repeats by its seed, and takes memory by the batch."""

import pytest
import torch
from linear import BLOCK, FOUND, SIZE, LinearDetector, bright_view

from dualvit.errors import InputError
from dualvit.explain.drise import Masks, drise


def test_the_block_that_the_score_reads_is_found():
    values = drise(LinearDetector(), bright_view(), FOUND, Masks(count=600, grid=8))
    row, column = divmod(int(values.argmax()), SIZE)
    assert BLOCK[0].start <= row < BLOCK[0].stop
    assert BLOCK[1].start <= column < BLOCK[1].stop
    # Without the block nothing is left of the score, so seeing all of it adds what it has.
    block = float(values[BLOCK].mean())
    values[BLOCK] = 0
    assert block > 5 * float(values.mean().abs())
    assert block > 0.1


def test_a_score_that_nothing_changes_has_no_evidence():
    subject = LinearDetector()
    subject.network.gain.data.zero_()
    assert float(drise(subject, bright_view(), FOUND, Masks(count=64)).abs().max()) == 0


def test_batches_bound_the_images_at_once_and_change_nothing():
    maps = []
    for batch in (7, 50):
        subject, told = LinearDetector(), []
        masks = Masks(count=100, grid=4, batch=batch)
        maps.append(drise(subject, bright_view(), FOUND, masks, lambda done, total, told=told: told.append(done)))
        assert max(subject.network.batches) == batch
        assert sum(subject.network.batches) == told[-1] == 100
    assert torch.allclose(*maps, atol=1e-5)


def test_a_seed_repeats_and_another_one_differs():
    one, same, other = (drise(LinearDetector(), bright_view(), FOUND, Masks(count=40, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_masks_have_the_size_and_the_share():
    masks = torch.cat(list(Masks(count=200, grid=5, share=0.3).batches(33, 47)))
    assert masks.shape == (200, 1, 33, 47)
    assert 0 <= float(masks.min()) <= float(masks.max()) <= 1
    assert float(masks.mean()) == pytest.approx(0.3, abs=0.02)


def test_bad_settings_are_refused():
    for settings in ({"count": 0}, {"grid": 0}, {"share": 1.0}, {"batch": 0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Masks(**settings)
