"""A training's page from made-up figures, and the choice of the best and the worst pictures."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="needs dualvit[report]")

from dualvit.data.coco import Picture
from dualvit.report import gallery as module
from dualvit.report.gallery import Asked, few, gallery
from dualvit.report.page import Figures, Words
from dualvit.report.predictions import Answer, Found, Shown
from dualvit.report.training import Curve, Training, training_page


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def made(**more):
    history = [
        {"epoch": 1.0, "loss": 0.9, "top1": 0.25, "nothing": 0.0},
        {"epoch": 2.0, "loss": 0.5, "top1": float("nan")},
    ]
    curves = [
        Curve("Scores", {"top-1": "top1"}, percent=True), Curve("Loss", {"loss": "loss"}),
        Curve("Absent", {"x": "x"}), Curve("Zero", {"x": "nothing"}),
    ]  # fmt: skip
    return Training(what="dualvit x", title="t", result="r", history=history, curves=curves, **more)


def test_what_is_not_known_is_left_out():
    titles = [section.title for section in training_page(made()).sections]
    assert titles == ["Course of the training", "How to get it again"]
    (figures,) = training_page(made()).sections[0].parts
    assert [one.title for one in figures.figures] == ["Scores, %", "Loss"]
    assert figures.figures[0].alt == "Scores, % over epochs: top-1 from 25 to 25"
    assert figures.figures[1].alt == "Loss over epochs: loss from 0.9 to 0.5"


def test_explanations_are_shown_if_they_are_given():
    page = training_page(made(explanations=[("why a raccoon", png())]))
    (section,) = [one for one in page.sections if one.title == "Why it says so"]
    assert [one.title for one in section.parts[0].figures] == ["why a raccoon"]
    assert 'alt="why a raccoon"' in page.html()


def test_no_further_picture_once_the_time_is_over(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert list(few(50, seconds=3)) == [0, 1, 2]


@pytest.fixture
def detector(tmp_path):
    """Pictures 0 to 9, each with an object: it is found in the even ones, with more confidence in later ones."""
    asked = Asked("detect", ["a"], 20)
    for number in range(10):
        Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / f"{number}.png")
        box = np.array([[5, 5, 25, 25]], np.float32)
        picture = Picture(number, tmp_path / f"{number}.png", 40, 30, box, np.array([0]), (None,))
        asked.images.append(Shown(number, f"{number}.png", 40, 30))
        asked.places[number] = picture
        if number % 2 == 0:
            asked.found.append(Found(number, 0, [5.0, 5.0, 20.0, 20.0], 0.5 + number / 100))
    return asked


def test_the_best_and_the_worst_pictures(detector):
    parts = gallery(detector)
    worst, best = (part for part in parts if isinstance(part, Figures))
    assert [one.title for one in worst.figures] == ["1.png", "3.png", "5.png", "7.png", "9.png"]
    assert [one.title for one in best.figures] == ["8.png", "6.png", "4.png", "2.png", "0.png"]
    assert worst.figures[0].below == ["0.00: 0 found, 0 false, 1 missed"]
    assert best.figures[0].below == ["1.00: 1 found, 0 false, 0 missed"]
    assert len(worst.legend) == 4 and not best.legend
    assert "10 of 20, evenly spread," in parts[0].lines[0] and "confidence 0.500" in parts[0].lines[0]
    with Image.open(io.BytesIO(best.figures[0].content)) as image:
        assert image.size == (480, 360)


def test_a_picture_that_cannot_be_drawn_is_a_line_and_the_others_keep_their_own(detector, tmp_path):
    (tmp_path / "3.png").write_bytes(b"nothing")
    parts = gallery(detector)
    worst = next(part for part in parts if isinstance(part, Figures))
    assert [one.title for one in worst.figures] == ["1.png", "5.png", "7.png", "9.png"]
    assert isinstance(parts[-1], Words) and parts[-1].lines[0].startswith("picture 3 is not drawn: cannot read")


def test_one_picture_and_none():
    asked = Asked("classify", ["a", "b"], 1, panel=lambda number, answer: Image.new("RGB", (9, 9)))
    assert gallery(asked) == []
    asked.images.append(Shown(0, "x.png"))
    asked.answers.append(Answer(0, "a", 0.25, {"b": 0.75, "a": 0.25}))
    assert [type(part).__name__ for part in gallery(asked)] == ["Words", "Words", "Figures"]
