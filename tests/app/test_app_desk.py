"""The desk of the page without a browser: what is offered, pictures, boxes, and lines of what went wrong."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import dualvit
from dualvit.app.desk import MOST, USUAL, Desk, Wanted, method_of
from dualvit.app.offer import START_SIZE, STARTS, offer
from dualvit.app.seen import CLASSES, look
from dualvit.app.serving import require_free
from dualvit.errors import InputError, MissingFileError, StateError
from dualvit.explain import Answers, Found, View
from dualvit.explain.subject import Classifier


class Boxes:
    """Finds three boxes in any picture, without a network: two that overlap, and an unsure one."""

    classes, detects, network = ("a", "b"), True, torch.nn.Identity()
    boxes = torch.tensor([[0.0, 0, 60, 60], [20, 20, 40, 40], [70, 70, 90, 90]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8], [0.1, 0.0]])

    def view(self, picture):
        return View(torch.zeros(1, 3, 100, 100), (0, 0, 100, 100), picture.size)

    def answers(self, outputs):
        return [Answers(self.boxes, self.scores, self.scores)]

    def found(self, answers, confidence=0.25):
        return [
            Found(int(row.argmax()), self.classes[int(row.argmax())], float(row.max()), i, tuple(box.tolist()))
            for i, (row, box) in enumerate(zip(answers.scores, answers.boxes, strict=True))
            if row.max() >= confidence
        ]

    def masks(self, outputs, found):
        return []


def classifier():
    torch.manual_seed(0)
    return Classifier(dualvit.create_model("dualvit_n", num_classes=7), tuple("abcdefg"), 64)


def models(**subjects):
    return SimpleNamespace(open=lambda name, size: subjects[name])


@pytest.fixture
def file(tmp_path):
    Image.new("RGB", (50, 50), "#336699").save(tmp_path / "one.png")
    return tmp_path / "one.png"


def test_the_smallest_box_under_a_click_is_chosen_and_a_miss_is_a_line(file):
    desk = Desk()
    assert desk.add([file]) == []
    assert desk.look(models(a=Boxes()), Wanted(("a", ""), 0.25, None)) == ""
    seen = desk.panels[0].seen
    assert [found.name for found in seen.found] == ["a", "b"] and seen.chosen == 0
    assert desk.point(300, 300) == "" and seen.chosen == 1  # what is shown has 1000 pixels
    assert desk.point(100, 100) == "" and seen.chosen == 0
    assert "no box at this place" in desk.point(800, 800) and seen.chosen == 0
    desk.require(0.05)
    assert len(seen.found) == 3 and desk.point(800, 800) == "" and seen.chosen == 2
    desk.require(0.85)
    assert len(seen.found) == 1 and seen.chosen == 0
    assert seen.surest == pytest.approx(0.9)


def test_one_model_that_fails_leaves_the_other_one(file):
    desk = Desk()
    desk.add([file])
    desk.look(models(a=Boxes()), Wanted(("a", "gone"), 0.25, None))
    first, second = desk.panels
    assert first.problem == "" and first.seen is not None
    assert second.problem == "KeyError: 'gone'" and second.seen is None
    assert desk.picture(0).size == (1000, 1000) and desk.picture(1) is None


def test_a_class_is_explained_once_and_its_passes_are_said_before(file):
    desk = Desk()
    desk.add([file])
    subject = classifier()
    desk.look(models(c=subject), Wanted(("c", ""), 0.25, None))
    seen = desk.panels[0].seen
    assert len(seen.found) == CLASSES and seen.boxes() == []
    assert desk.ahead(0, USUAL).endswith("relevance, 25 passes ...") and desk.ahead(1, USUAL) == ""
    assert desk.ahead(0, "drise").endswith("drise, 1000 passes ...")
    picture, words = desk.map(0, USUAL, 0.6)
    assert picture.width == 1000 and f"Looked at for {seen.choice.name} " in words and "relevance, 25 passes" in words
    assert desk.ahead(0, USUAL) == "" and desk.map(0, "relevance", 0.6)[1] == words
    desk.pick(0, 3)
    assert seen.chosen == 3 and desk.ahead(0, USUAL) != ""
    assert desk.map(0, USUAL, 0.6)[0].tobytes() != picture.tobytes()


def test_the_usual_method_follows_the_semantics():
    assert method_of(classifier(), USUAL).name == "relevance"
    assert method_of(Boxes(), USUAL).name in ("layercam", "relevance")  # the second without grad-cam
    assert method_of(Boxes(), "drise").name == "drise"


def test_pictures_are_bounded_and_broken_ones_are_lines(file):
    broken = file.with_name("broken.png")
    broken.write_bytes(file.read_bytes()[:40])
    desk = Desk()
    lines = desk.add([broken, file])
    assert len(lines) == 1 and lines[0].startswith("cannot read the picture broken.png: ")
    lines = desk.add([file] * MOST)
    assert lines == ["1 pictures are left out, since 100 are here; load the page anew"] and len(desk.pictures) == MOST
    with pytest.raises(InputError, match="no longer here"):
        desk.open(MOST)
    assert Desk().look(models(), Wanted(("a", ""), 0.25, None)).startswith("Choose a picture first")


def test_without_a_name_the_starts_are_offered_and_else_what_is_named(tmp_path):
    starts = offer([])
    assert [file.stem for file in starts.models.values()] == list(STARTS)
    assert starts.image_size == START_SIZE and all(file.is_file() for file in starts.models.values())
    for name in ("a/best.pt", "b/best.pt", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    named = offer([tmp_path / "b/best.pt", tmp_path])
    assert list(named.models) == ["b/best.pt", "a/best.pt"] and named.named == 1 and named.image_size is None
    with pytest.raises(InputError, match=r"notes.txt is no checkpoint; give a file that ends in .pt"):
        offer([tmp_path / "b/notes.txt"])
    for wrong in ([tmp_path / "none.pt"], [Path(tmp_path / "a/none")]):
        with pytest.raises(MissingFileError, match="no model at"):
            offer(wrong)
    with pytest.raises(MissingFileError, match="no picture below"):
        offer([], tmp_path / "a")


def test_a_port_in_use_and_a_foreign_host_are_one_line_each():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StateError, match=f"port {port} of 127.0.0.1 is in use; give another one with --port"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen at 192\.0\.2\.1, port"):
        require_free("192.0.2.1", port)


def test_the_time_is_that_of_a_pass(file):
    seen = look(Boxes(), Image.open(file), 0.25)
    assert 0 < seen.milliseconds < 1000 and seen.view.size == (1000, 1000)
