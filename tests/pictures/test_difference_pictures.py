"""Pictures of differences, pixel by pixel: each kind has its colour and its line, and the page its limit."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="needs dualvit[report]")

from dualvit.pictures.differences import KINDS, Mark, Tile, beside, judged_pixels, marked, sheet

GREY = Image.new("RGB", (200, 100), (128, 128, 128))


def coloured(image, kind):
    return (np.asarray(image) == np.array(KINDS[kind].colour, np.uint8)).all(2)


def test_each_kind_has_its_own_colour_and_line():
    assert len({kind.colour for kind in KINDS.values()}) == len(KINDS)
    assert len({(kind.on, kind.off, kind.width) for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(("kind", "share"), [("hit", 1.0), ("true", 1.0), ("false", 4 / 7), ("missed", 8 / 13)])
def test_a_box_is_drawn_where_it_is(kind, share):
    panel = marked(GREY, [Mark(kind, (20, 10, 120, 90))], side=200)
    assert panel.size == (200, 100)
    there = coloured(panel, kind)
    rows, columns = np.nonzero(there)
    assert (columns.min(), rows.min()) == (20, 10) and columns.max() < 120 and rows.max() < 90
    width = KINDS[kind].width
    frame = 100 * 80 - (100 - 2 * width) * (80 - 2 * width)
    assert there.sum() == pytest.approx(share * frame, rel=0.05)
    assert not there[10 + width : 90 - width, 20 + width : 120 - width].any()
    assert (np.asarray(panel)[50, 60:80] == 128).all()  # the object itself stays in sight


def test_boxes_scale_with_the_picture_and_may_reach_beyond_it():
    rows, columns = np.nonzero(coloured(marked(GREY, [Mark("hit", (10, 10, 50, 40))], side=400), "hit"))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (20, 20, 99, 79)
    assert coloured(marked(GREY, [Mark("hit", (-50, -50, 500, 30))], side=200), "hit").any()
    assert not coloured(marked(GREY, [Mark("hit", (300, 300, 400, 400))], side=200), "hit").any()


def test_a_mask_has_an_edge_and_what_is_wrong_is_filled():
    mask = np.zeros((100, 200), bool)
    mask[20:80, 40:160] = True
    for kind, filled in (("hit", False), ("false", True), ("missed", True)):
        panel = np.asarray(marked(GREY, [Mark(kind, (40, 20, 160, 80), mask)], side=200))
        assert ((panel[50, 60:140] != 128).any()) == filled
        there = coloured(panel, kind)
        assert there.any() and not there[~mask].any() and not there[26:74, 46:154].any()


def test_names_stand_beside():
    plain = marked(GREY, [Mark("false", (50, 40, 100, 80))], 200)
    named = marked(GREY, [Mark("false", (50, 40, 100, 80), words="cat 0.91")], 200)
    assert (np.asarray(plain) != np.asarray(named)).any()


def test_pixels_are_judged():
    true, said = np.zeros((100, 200), int), np.zeros((100, 200), int)
    true[:, :100], said[:, 50:150], true[:10] = 1, 1, 255
    panel = np.asarray(judged_pixels(GREY, said, true, background=0, ignore=255).resize((200, 100), 0)).astype(int)
    grey = np.abs(panel - 128).sum(2) < 3
    assert grey[:9].all() and grey[12:, 160:].all()
    hit, false, missed = panel[50, 75], panel[50, 120], panel[20:90, 10:40].reshape(-1, 3)
    assert hit[1] > hit[0] and false[0] > false[1] + 60
    assert 0.2 < (missed[:, 0] > 200).mean() < 0.9  # hatched
    several = np.asarray(judged_pixels(GREY, said, true, background=None, ignore=255).resize((200, 100), 0))
    assert (several[50, 75] == 128).all() and several[50, 20, 0] > several[50, 20, 1] + 60


def test_the_sheet_has_room_for_all():
    panels = [marked(GREY, [], 320), marked(GREY, [], 320)]
    assert beside(panels).size == (646, 160)
    tiles = [Tile(f"images/{index}.png", panels, ("a: 0.50", "b " * 80)) for index in range(3)]
    with Image.open(io.BytesIO(sheet(tiles, "Where a and b differ", tuple(KINDS)))) as image:
        assert image.width == 2 * 18 + 2 * 646 + 54 and image.height == 84 + 2 * (160 + 44 + 18)
    with Image.open(io.BytesIO(sheet(tiles[:1], "One", ()))) as image:
        assert image.width == 2 * 18 + 646
