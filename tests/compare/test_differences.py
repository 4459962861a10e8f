"""The pictures on which two models differ, from made-up predictions: ranked, told, drawn, and what is wrong named."""

import base64
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")
pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
pytest.importorskip("matplotlib", reason="needs dualvit[report]")

from dualvit.compare.differences import Differences, Scene, _pair, differences
from dualvit.compare.engine import DataSet
from dualvit.compare.pages import report_all
from dualvit.compare.predictions import write_predictions
from dualvit.compare.reading import parse
from dualvit.compare.report import summarise
from dualvit.compare.results import Cost, Costs, Latency, Result
from dualvit.compare.scenes import drawn
from dualvit.pictures.masks import small_map
from dualvit.report.matching import judged
from dualvit.report.predictions import Answer, Category, Predictions, Shown
from dualvit.yolo.predictions import truth_of

MACHINE = {"versions": {"torch": "2"}, "commit": None, "date": "2026-01-01", "hardware": "a CPU", "threads": 1}
BOXES = {"first": (8, 8, 24, 24), "second": (36, 36, 60, 60)}  # of each picture


@pytest.fixture
def place(tmp_path):
    """A data.yaml with 16 pictures of 64x64 to validate on, two objects in each, of two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for index in range(16):
            pixels = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
            lines = []
            for label, (x1, y1, x2, y2) in enumerate(BOXES.values()):
                pixels[y1:y2, x1:x2] = (200, 90 * label, 60)
                lines.append(f"{label} {(x1 + x2) / 128} {(y1 + y2) / 128} {(x2 - x1) / 64} {(y2 - y1) / 64}")
            Image.fromarray(pixels).save(tmp_path / "data" / "images" / split / f"{index:02}.png")
            (tmp_path / "data" / "labels" / split / f"{index:02}.txt").write_text("\n".join(lines))
    (tmp_path / "data" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, amber]\n")
    return tmp_path


@pytest.fixture(autouse=True)
def no_curve(monkeypatch):
    """The picture of accuracy against cost has tests of its own, and takes seconds."""
    monkeypatch.setattr("dualvit.pictures.curves.accuracy_against_cost", lambda _: {"svg": b"<svg></svg>", "png": b""})


def experiment(place, **keys):
    raw = {
        "engine": "yolo", "task": "detect", "data": str(place / "data" / "data.yaml"), "epochs": 1, "seeds": [3, 4],
        "models": [{"name": "yolov8n.yaml", "label": label} for label in ("good", "bad", "none")], "image_size": 64,
        "output": str(place / "out"),
    } | keys  # fmt: skip
    return parse(raw)


def row(number, name, score=0.9, label=None):
    x1, y1, x2, y2 = BOXES[name]
    label = list(BOXES).index(name) if label is None else label
    return {"image_id": number, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


def write(place, label, rows, seed=3, wanted=None):
    wanted = wanted or experiment(place)
    truth = truth_of(wanted.data, "val")
    folder = place / "out" / "cells" / f"{label}-s{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": p.id, "file": p.file, "width": 64, "height": 64} for p in truth.pictures]
    categories = [{"id": index, "name": name} for index, name in enumerate(truth.classes)]
    content = {"images": images, "categories": categories, "annotations": rows}
    write_predictions(folder, wanted, wanted.data, content)
    (folder / "result.json").write_text("{}")
    return folder / "predictions.json"


@pytest.fixture
def cells(place):
    """`good` finds all; `bad` one of two in pictures 3 and 4, none in 7, and two that are not there in 9."""
    every = [row(number, name) for number in range(1, 17) for name in BOXES]
    write(place, "good", every)
    lost = {(3, "second"), (4, "second"), (7, "first"), (7, "second")}
    kept = [one for one, key in zip(every, [(n, b) for n in range(1, 17) for b in BOXES], strict=True)
            if key not in lost]  # fmt: skip
    write(place, "bad", [*kept, row(9, "first", 0.95, label=1), row(9, "second", 0.95, label=0)])
    return place


def data_set(place):
    return DataSet(str(place / "data" / "data.yaml"), 2, 16, 16)


def test_pictures_are_ranked_by_their_difference(cells):
    scene, lines = differences(experiment(cells), data_set(cells), "good", ["bad", "none"])
    assert lines == []
    (pair,) = scene.differences.pairs
    assert [(one.image_id, round(one.difference, 4)) for one in pair.pictures] == [
        (7, -1.0), (9, round(2 * 2 / 6 - 1, 4)), (3, round(2 / 3 - 1, 4)), (4, round(2 / 3 - 1, 4)),
    ]  # fmt: skip
    assert (pair.better, pair.worse, pair.equal) == (0, 4, 12)
    assert pair.pictures[1].counts == {"reference": {"hits": 2, "false": 0, "missed": 0},
                                       "other": {"hits": 2, "false": 2, "missed": 0}}  # fmt: skip
    assert pair.pictures[0].file == "images/val/06.png"
    assert scene.differences.seed == 3
    assert pair.confidence == {"good": 0.9, "bad": 0.9}


def results(labels=("good", "bad")):
    return [
        Result(
            label=label, name="yolov8n.yaml", options={}, seed=3, metric="mAP50-95", last=0.5, best=0.5, best_epoch=1,
            epochs=[{"epoch": 1, "mAP50-95": 0.5}], seconds=1.0, peak_memory=1,
            coco={"AP": 0.25} if label == "good" else {}, **MACHINE,
        )
        for label in labels
    ]  # fmt: skip


def reported(place, **keys):
    wanted, data = experiment(place, reference="good", **keys), data_set(place)
    cost = Cost(3_000_000, 2e9, Latency(20.0, 19.0, 21.0, 5))
    costs = Costs(models=dict.fromkeys(("good", "bad"), cost), cuda=False, **MACHINE)
    screen = io.StringIO()
    report_all(wanted, data, summarise(wanted, data, results(), costs), Console(file=screen, width=200))
    return screen.getvalue()


def test_the_report_shows_them(cells):
    screen = reported(cells)
    assert "note:" not in screen
    plain = json.loads((cells / "out" / "differences.json").read_text())
    assert plain["version"] == 1 and plain["measure"] == "F1 at IoU 0.5"
    assert [one["image_id"] for one in plain["pairs"][0]["pictures"]] == [7, 9, 3, 4]
    page = (cells / "out" / "report.html").read_text()
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(sources) == 4 and len(page) < 2_000_000
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source))) as image:
            assert image.size == (646, 320)
    assert "bad 0.00: 0 found, 0 false, 2 missed" in page and "good 1.00: 2 found, 0 false, 0 missed" in page
    with Image.open(cells / "out" / "differences.png") as image:
        assert image.width == 2 * 18 + 2 * 646 + 54
    markdown = (cells / "out" / "report.md").read_text()
    assert "(differences.png)" in markdown and "| COCO AP |" in markdown.replace(" | ", " | ")
    assert "| good | 50.0 | 25.0 | 50.0 |" in markdown and "| bad | 50.0 |  | 50.0 |" in markdown
    assert "Ultralytics draws straight lines" in markdown
    rows = {one["label"]: one["coco"] for one in json.loads((cells / "out" / "results.json").read_text())["rows"]}
    assert rows == {"good": 0.25, "bad": None}


def test_what_cannot_be_used_is_a_line_and_the_report_is_there(cells):
    (cells / "out" / "cells" / "bad-s3" / "predictions.json").write_text('{"version": 9}')
    screen = reported(cells)
    (line,) = [line for line in screen.splitlines() if line.startswith("note:")]
    assert "bad-s3" in line and "is not what dualvit compare wrote" in line
    assert not (cells / "out" / "differences.json").exists()
    assert "differ most" not in (cells / "out" / "report.html").read_text()
    assert "is not what dualvit compare wrote" in (cells / "out" / "report.html").read_text()
    (cells / "out" / "cells" / "bad-s3" / "predictions.json").unlink()
    assert "note:" not in reported(cells)  # cells of an earlier version have none


def test_equal_models_are_a_line(cells):
    write(cells, "bad", [row(number, name) for number in range(1, 17) for name in BOXES])
    (note,) = [line for line in reported(cells).splitlines() if line.startswith("note:")]
    assert note.strip() == "note: bad and good have the same score on each of 16 pictures"
    assert not (cells / "out" / "differences.png").exists()


def test_a_second_seed_stands_in(cells):
    (cells / "out" / "cells" / "bad-s3" / "predictions.json").unlink()
    for label in ("good", "bad"):
        write(cells, label, [row(1, "first")] if label == "good" else [], seed=4)
    scene, lines = differences(experiment(cells), data_set(cells), "good", ["bad"])
    assert lines == [] and scene.differences.seed == 4
    assert [one.image_id for one in scene.differences.pairs[0].pictures] == [1]


def test_a_picture_that_is_gone_or_broken(cells):
    (cells / "data" / "images" / "val" / "00.png").unlink()  # the numbers of all later ones change
    (cells / "data" / "images" / "val" / "08.png").write_bytes(b"no picture")
    whole = (cells / "data" / "images" / "val" / "06.png").read_bytes()
    (cells / "data" / "images" / "val" / "06.png").write_bytes(whole[: len(whole) // 2])
    notes = [line for line in reported(cells).splitlines() if line.startswith("note:")]
    assert len(notes) == 2
    assert "2 pictures are gone from the data set or changed, such as images/val/00.png" in notes[0]
    assert "images/val/06.png is not drawn: cannot read the picture" in notes[1]
    plain = json.loads((cells / "out" / "differences.json").read_text())
    assert [one["image_id"] for one in plain["pairs"][0]["pictures"]] == [7, 3, 4]
    assert (cells / "out" / "report.html").read_text().count("data:image/jpeg") == 2


def test_classes_that_are_gone(cells):
    (cells / "data" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, yellow]\n")
    (note,) = [line for line in reported(cells).splitlines() if line.startswith("note:")]
    assert "the data set's classes are not those of the predictions, such as amber" in note


def test_other_classes_or_pictures_of_one_model(cells):
    file = cells / "out" / "cells" / "bad-s3" / "predictions.json"
    file.write_text(file.read_text().replace('"amber"', '"green"'))
    (note,) = [line for line in reported(cells).splitlines() if line.startswith("note:")]
    assert "bad seed 3: its predictions are of other pictures or classes than good's" in note
    assert not (cells / "out" / "differences.png").exists()


def test_a_report_of_classes_and_of_maps(tmp_path):
    """Their answers suffice: the right class, and a small map."""
    Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / "a.png")
    images = [Shown(1, "a.png")]

    def scene(task, classes, answers, truth, places):
        said = {
            label: Predictions(
                version=1, task=task, split="val", categories=[Category(i, n) for i, n in enumerate(classes)],
                images=images, answers=[answer],
            )
            for label, answer in answers.items()
        }  # fmt: skip
        models = {label: judged(label, one, {}) for label, one in said.items()}
        pair = _pair(models["one"], models["two"], {1: "a.png"})
        return Scene(Differences("one", 0, "val", "x", [pair], []), said, models, truth, places, tmp_path)

    answers = {"one": Answer(1, "cat", 0.2, {"dog": 0.5, "cat": 0.2}), "two": Answer(1, "cat", 0.9, {"cat": 0.9})}
    picture, view, lines = drawn(scene("classify", ("cat", "dog"), answers, None, {}))
    assert picture and lines == [] and view.figures.legend == []
    (figure,) = view.figures.figures
    assert (figure.title, figure.below) == ("a.png", ["one 0.20", "two 0.90"])

    true = torch.zeros(30, 40, dtype=torch.int64)
    true[:, :20] = 1

    class Truth(list):
        data = SimpleNamespace(ignore_index=255)

    answers = {"one": Answer(1, miou=1.0, map=small_map(true)), "two": Answer(1, miou=0.2, map=small_map(1 - true))}
    truth = Truth([(torch.zeros(3, 30, 40, dtype=torch.uint8), true)])
    picture, view, lines = drawn(scene("semantic", ("background", "cell"), answers, truth, {1: 0}))
    assert picture and lines == [] and len(view.figures.legend) == 3
    for broken in ("no base64!", base64.b64encode(b"no picture").decode()):
        answers["two"] = Answer(1, miou=0.2, map=broken)
        assert drawn(scene("semantic", ("background", "cell"), answers, truth, {1: 0}))[2][0].startswith("a.png is not")
