"""Regions, profiles and the picture of both, from attention that is known."""

import math

import pytest
import torch
from PIL import Image

import dualvit
from dualvit.explain.attention import PIXELS, SEMANTICS, Attention, attention_of
from dualvit.explain.profiles import profiles
from dualvit.explain.regions import regions, shares
from dualvit.explain.show import boxes_picture, map_picture, region_picture, sheet
from dualvit.explain.subject import Found, View

SIZE = (4, 6)


def attention(readers, choices, sharp):
    """Tokens of one direction each; readers that ask for the source of their choice, as sharply as told."""
    sources, dim = max(choices) + 1, 32
    directions = torch.eye(dim)[:sources]
    queries, keys = directions[torch.tensor(choices)] * sharp, directions
    other = PIXELS if readers == SEMANTICS else SEMANTICS
    return Attention(0, 0, readers, other, queries[None, None], keys[None, None], 0, sources, SIZE)


def halves():
    """Pixels on the left consult token 0, those on the right token 1."""
    return attention(PIXELS, [int(column >= 3) for _ in range(4) for column in range(6)], 100.0)


def test_a_region_is_where_a_token_is_consulted_most():
    labels = regions([halves()], 0)
    assert labels.tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    assert torch.allclose(shares([halves()], 0).sum(0), torch.ones(SIZE))


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="stage 3 has no pixels that consult semantics; there are 0"):
        regions([halves()], 3)


def test_blocks_are_averaged():
    even = attention(PIXELS, [0] * 12 + [1] * 12, 0.0)
    both = shares([halves(), even], 0)
    assert torch.allclose(both[0, :, :3], torch.full((4, 3), 0.75), atol=1e-4)


def test_sharp_attention_has_no_entropy_and_even_attention_has_all():
    network = dualvit.create_model("dualvit_n").eval()
    reads = attention(SEMANTICS, [0, 23], 1000.0)
    (sharp,) = profiles(network, [reads, halves()])
    assert sharp.reading == pytest.approx(0, abs=1e-3) and sharp.consulting == pytest.approx(0, abs=1e-3)
    (even,) = profiles(network, [attention(SEMANTICS, [0, 23], 0.0), halves()])
    assert even.reading == pytest.approx(1) and even.reach == pytest.approx(even.uniform, rel=1e-3)
    # Token 0 reads the first pixel and token 1 the last, so that the left half reads up to half of the map away.
    assert 0 < sharp.reach < 0.6 < math.hypot(1, 1)


def test_profiles_of_a_network_have_a_row_per_block():
    network = dualvit.create_model("dualvit_s", depths=(1, 2, 1, 1), layer_scale=0.25).eval()
    rows = profiles(network, attention_of(network, torch.rand(1, 3, 64, 64)))
    assert [(row.stage, row.block) for row in rows] == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]
    for row in rows:
        assert row.scales == (0.25, 0.25) and 0 <= row.reading <= 1 and 0 <= row.consulting <= 1 and row.reach >= 0


def test_pictures_keep_the_picture_and_mark_what_is_explained():
    picture = Image.new("RGB", (60, 40), (100, 120, 140))
    view = View(torch.zeros(1, 3, 40, 60), (0, 0, 60, 40), (60, 40))
    found = Found(0, "cat", 0.9, 0, (5.0, 5.0, 25.0, 30.0))
    drawn = region_picture(picture, view, [halves()], 0)
    assert drawn.size == picture.size and drawn.getpixel((10, 20)) != drawn.getpixel((50, 20))
    values = torch.zeros(40, 60)
    values[10:14, 10:14] = 1.0
    hot = map_picture(picture, view, values, found, scale=False)
    assert hot.size == picture.size and hot.getpixel((12, 12))[0] > hot.getpixel((50, 35))[0]
    boxed = boxes_picture(picture, view, [found], ["cat"])
    assert boxed.tobytes() != picture.tobytes() and picture.getpixel((5, 5)) == (100, 120, 140)
    assert sheet([("a", drawn), ("b", hot), ("c", boxed), ("d", drawn)]).width == 3 * 360 + 2 * 12
