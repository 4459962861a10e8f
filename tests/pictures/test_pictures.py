"""Pictures: colours and names stay apart, whatever the classes are called, and what is drawn is where it should be."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.pictures import boxes
from dualvit.pictures.captions import captioned, contact_sheet
from dualvit.pictures.confusion import confusion
from dualvit.pictures.curves import Curve, accuracy_against_cost, time_over_size
from dualvit.pictures.masks import overlay, write_prediction
from dualvit.pictures.palette import colours, fitting, font, ink_on, legible

SEEN_BY = {  # linear approximations of what readers without one kind of cone see (Vienot and others, 1999)
    "protanopia": [[0.11, 0.89, 0], [0.11, 0.89, 0], [0.004, -0.004, 1]],
    "deuteranopia": [[0.29, 0.71, 0], [0.29, 0.71, 0], [-0.02, 0.02, 1]],
}


@pytest.mark.parametrize("kind", SEEN_BY)
def test_the_first_seven_colours_differ_for_colour_blind_readers(kind):
    linear = (np.array(colours(7)) / 255) ** 2.2
    seen = 255 * np.clip(linear @ np.array(SEEN_BY[kind]).T, 0, 1) ** (1 / 2.2)
    distances = np.linalg.norm(seen[:, None] - seen, axis=2)[np.triu_indices(7, 1)]
    assert distances.min() > 25


def test_colours_are_distinct_and_never_change_with_their_number():
    assert len(set(colours(500))) == 500
    assert colours(150)[:9] == colours(9)
    assert {ink_on(colour) for colour in colours(7)} == {"#1c2430", "#ffffff"}


def test_names_that_the_font_lacks_stay_apart():
    names = ["猫", "犬", "🦝", "raccoon", "Füchse", "a\nb", "a b"]
    assert len({legible(name) for name in names}) == len(names)
    assert legible("raccoon, Füchse, лиса") == "raccoon, Füchse, лиса"
    pictures = [captioned(Image.new("RGB", (256, 8)), [(name, 0.5)]).tobytes() for name in names]
    assert len(set(pictures)) == len(names)


def test_long_names_fit():
    pen = font(14)
    short = fitting("a very long name of a class " * 4, pen, 150)
    assert pen.getlength(short) <= 150
    assert "…" in short
    assert fitting("cat", pen, 150) == "cat"


def test_boxes_are_drawn_where_they_are(monkeypatch):
    monkeypatch.setattr(boxes, "LONG", 1)
    objects = {
        "boxes": torch.tensor([[20.0, 40, 90, 110], [100.0, 20, 150, 70]]),
        "labels": torch.tensor([0, 1]),
        "scores": torch.tensor([0.9, 0.8]),
    }
    drawn = np.asarray(boxes.draw(torch.zeros(3, 160, 160, dtype=torch.uint8), objects, ["a", "b"]))
    assert tuple(drawn[75, 20]) == colours(2)[0]  # the left edge
    assert tuple(drawn[45, 100]) == colours(2)[1]
    assert not drawn[75, 50].any()
    empty = {key: value[:0] for key, value in objects.items()}
    assert not np.asarray(boxes.draw(torch.zeros(3, 160, 160, dtype=torch.uint8), empty, ["a", "b"])).any()


def test_names_of_near_boxes_do_not_cover_each_other(monkeypatch):
    monkeypatch.setattr(boxes, "LONG", 1)
    pair = torch.tensor([[20.0, 60, 90, 110], [22.0, 62, 92, 112]])
    objects = {"boxes": pair, "labels": torch.tensor([0, 1]), "scores": torch.tensor([0.9, 0.8])}
    drawn = np.asarray(boxes.draw(torch.zeros(3, 200, 200, dtype=torch.uint8), objects, ["a", "b"]))
    areas = [(drawn == np.array(colour)).all(2).sum() for colour in colours(2)]
    assert min(areas) > 700  # a plate each, besides edges of 4 x 60 pixels


def test_instances_have_colours_and_the_best_is_above(monkeypatch):
    monkeypatch.setattr(boxes, "LONG", 1)
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, 10:40, 10:40] = masks[1, :, 20:60, 20:60] = 1
    objects = {"boxes": torch.zeros(2, 4), "labels": torch.zeros(2).long(), "scores": torch.ones(2), "masks": masks}
    drawn = np.asarray(boxes.draw(torch.zeros(3, 64, 64, dtype=torch.uint8), objects, ["a"]))
    assert tuple(drawn[15, 15]) == tuple(drawn[30, 30]) != tuple(drawn[50, 50])
    assert not drawn[5, 5].any()


def test_overlay_leaves_the_background_clear(tmp_path):
    image = torch.full((3, 32, 40), 90, dtype=torch.uint8)
    classes = torch.zeros(32, 40, dtype=torch.int64)
    classes[:, 20:] = 1
    shown = overlay(image, classes, ("background", "sky"))
    assert bool((shown[:, :, :20] == 90).all())
    assert shown[:, 5, 30].tolist() == [round((90 + value) / 2) for value in colours(1)[0]]
    assert tuple(shown[:, 5, 20].tolist()) == colours(1)[0]  # the edge
    shares = write_prediction(tmp_path, "a", image, classes, ("background", "sky"))
    assert shares == {"background": 0.5, "sky": 0.5}
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.mask.png")), classes.numpy())


def test_contact_sheet():
    sheet = contact_sheet([Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")], columns=4)
    assert sheet.size == (44, 10)
    assert sheet.getpixel((25, 5)) == (0, 0, 255)


def test_confusion_shows_the_most_mistaken_of_many_classes():
    counts = np.eye(100, dtype=int) * 5
    counts[70, 80] = 3
    picture = Image.open(io.BytesIO(confusion(counts, [f"class {i}" for i in range(100)], "title $x$")))
    assert picture.width > 1000
    assert Image.open(io.BytesIO(confusion(np.zeros((2, 2), int), ["a", "b"], "none"))).width > 300


def row(label, macs, accuracy, front):
    return {
        "label": label, "macs": macs, "accuracy": accuracy, "latency": {"median": macs / 1e8}, "spread": 0.01,
        "pareto_macs": front, "pareto_latency": front,
    }  # fmt: skip


def test_curves_are_the_same_bytes_each_time():
    rows = [row("dualvit_n", 5e8, 0.8, True), row("猫 $x$", 6e8, 0.7, False), row("b" * 60, 5e9, 0.9, True)]
    summary = {"rows": rows, "metric": "top1", "config": {"image_size": 224}}
    first, again = accuracy_against_cost(summary), accuracy_against_cost(summary)
    assert first["svg"] == again["svg"]
    assert Image.open(io.BytesIO(first["png"])).width > 1000
    curves = [Curve(f"m{i}", (64, 96), (1.0 + i, 2.0 + i), i, i) for i in range(9)]
    assert time_over_size(curves, "inference", "here")["svg"].startswith(b"<?xml")


def test_a_thin_picture_is_not_enlarged_without_bound():
    assert captioned(Image.new("RGB", (1, 20000)), [("a", 0.5)]).size == (256, 20000 + 23 + 6)
    assert captioned(Image.new("RGB", (64, 640)), [("a", 0.5)]).size == (256, 2560 + 23 + 6)  # as before
