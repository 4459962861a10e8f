"""Pictures of known evidence: what decides lies on the evidence, and nothing else tells the class."""

import numpy as np
import pytest

from dualvit.drawn.cues import CUES, draw_cue
from dualvit.errors import InputError


@pytest.mark.parametrize("kind", CUES)
def test_what_decides_lies_on_the_evidence(kind):
    for index in range(12):
        cued = draw_cue(kind, 0, "val", index)
        assert cued.image.shape == cued.without.shape == (64, 64, 3)
        assert cued.label == index % 3
        differs = (cued.image.astype(int) - cued.without).any(2)
        assert differs.any()
        # An object's soft edge may differ a little beyond the pixels that count as it.
        loud = np.abs(cued.image.astype(int) - cued.without).max(2) > 60
        assert not (loud & ~cued.evidence).any()
        assert 0.01 < cued.evidence.mean() < 0.3


@pytest.mark.parametrize("kind", CUES)
def test_a_picture_depends_on_its_arguments_alone(kind):
    one, same, other, elsewhere = (
        draw_cue(kind, *rest).image for rest in ((0, "val", 5), (0, "val", 5), (1, "val", 5), (0, "train", 5))
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, elsewhere)


def test_a_planted_glyph_is_beside_the_middle():
    for index in range(30):
        rows, columns = np.nonzero(draw_cue("planted", 0, "train", index, 96).evidence)
        assert max(np.ptp(rows), np.ptp(columns)) < 24
    with pytest.raises(InputError, match="planted, occlusion, colour"):
        draw_cue("shadow", 0, "train", 0)
