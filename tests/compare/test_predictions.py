"""`predictions.json`: it is read back, scored by COCO's rules, and one line says what is wrong with another one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.compare import predictions as module
from dualvit.compare.predictions import coco_scores, read_predictions, relative, write_predictions
from dualvit.compare.reading import parse
from dualvit.data.coco import from_content

BOX = {"image_id": 1, "category_id": 0, "bbox": [10.0, 10.0, 20.0, 20.0], "score": 0.5}
IMAGES = [{"id": number, "file": Path(f"/data/images/{number}.png"), "width": 100, "height": 100} for number in (1, 2)]


def experiment(**keys):
    raw = {"engine": "yolo", "task": "detect", "data": "/data/data.yaml", "models": ["yolov8n.yaml"], "epochs": 1}
    return parse(raw | keys)


def content(*rows):
    return {"images": IMAGES, "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}], "annotations": list(rows)}


def test_it_is_read_back(tmp_path):
    assert read_predictions(tmp_path, experiment()) is None
    write_predictions(tmp_path, experiment(), "/data/data.yaml", content(BOX, BOX | {"score": 0.25}))
    found = read_predictions(tmp_path, experiment())
    assert [image.file for image in found.images] == ["images/1.png", "images/2.png"]
    assert [row.score for row in found.annotations] == [0.5, 0.25]
    assert found.classes == ("a", "b") and found.split == "val"
    plain = json.loads((tmp_path / "predictions.json").read_text())
    assert plain["version"] == 1 and plain["annotations"][0] == BOX  # COCO's results, as they are
    assert relative(Path("/elsewhere/1.png"), Path("/data")) == "/elsewhere/1.png"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("version", 2, "is not what dualvit compare wrote"), ("version", None, "is not what dualvit compare wrote"),
        ("task", "segment", "is of task segment, and the experiment's is detect"),
        ("split", "test", "is of split test, and the experiment's is val"),
        ("annotations", [BOX | {"image_id": 7}], "speaks of picture 7, which it does not list"),
        ("annotations", [BOX | {"category_id": 2}], "has class 2, and lists 2"),
        ("annotations", [BOX | {"bbox": [1.0]}], "is not what dualvit compare wrote"),
        ("annotations", [BOX | {"score": 1e9}], "is not what dualvit compare wrote"),
        ("categories", [{"id": 4, "name": "a"}], "has classes that are not numbered from 0"),
        ("images", [{"id": 1, "file": "a"}] * 2, "or pictures of one number"),
    ],
)  # fmt: skip
def test_another_file_is_one_line(tmp_path, key, value, words):
    write_predictions(tmp_path, experiment(), "/data/data.yaml", content(BOX))
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=words) as error:
        read_predictions(tmp_path, experiment())
    assert "\n" not in str(error.value) and "; delete it, and the report goes without" in str(error.value)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"predictions.json is not what"):
        read_predictions(tmp_path, experiment())


class Asked:
    """An engine whose network answers, or breaks."""

    def __init__(self, rows=None):
        self.rows = rows

    def predict(self, folder, split):
        if self.rows is None:
            raise RuntimeError("the network\nbroke")
        return {"mAP50-95": 0.25}, content(*self.rows)

    def truth(self, split):
        return truth()


def test_a_network_that_breaks_costs_the_pictures_alone(tmp_path):
    worker = pytest.importorskip("dualvit.compare.worker", reason="needs dualvit[recipes]")
    good = worker.ask(experiment(), Asked([BOX]), tmp_path, "/data/data.yaml")
    assert good.scores == {"mAP50-95": 0.25} and good.lines == []
    assert len(read_predictions(tmp_path, experiment()).annotations) == 1
    bad = worker.ask(experiment(), Asked(), tmp_path / "other", "/data/data.yaml")
    assert bad.lines == ["its predictions were not kept: the network broke"] and bad.coco == {}
    with pytest.raises(RuntimeError, match="broke"):  # without the score there is no result
        worker.ask(experiment(score="test"), Asked(), tmp_path, "/data/data.yaml")


def truth():
    rows = [{"image_id": 1, "category_id": 0, "bbox": [10, 10, 20, 20]}, {"image_id": 2, "category_id": 1,
            "bbox": [0, 0, 50, 50]}]  # fmt: skip
    images = [{"id": n, "file_name": f"{n}.png", "width": 100, "height": 100} for n in (1, 2)]
    categories = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    return from_content({"images": images, "annotations": rows, "categories": categories}, Path(), "x")


def test_coco_scores_are_those_of_the_rows(monkeypatch):
    pytest.importorskip("faster_coco_eval", reason="needs dualvit[recipes]")
    whole = content(BOX, {"image_id": 2, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9})
    assert coco_scores(experiment(), whole, truth())["AP"] == pytest.approx(1.0)
    half = coco_scores(experiment(), content(BOX), truth())
    assert half["AP"] == pytest.approx(0.5) and half["AP50"] == pytest.approx(0.5)
    assert "APl" not in half  # there are no such objects
    assert coco_scores(experiment(), content(), truth())["AP"] == 0.0
    first = whole | {"images": IMAGES[:1]}
    assert coco_scores(experiment(), first, truth())["AP"] == pytest.approx(1.0)  # a picture that was not asked about
    assert coco_scores(replace(experiment(), engine="recipe"), whole, truth()) == {}  # whose own score is COCO's
    monkeypatch.setattr(module, "SCORER", "absent_library")
    assert coco_scores(experiment(), whole, truth()) == {}


def test_coco_differs_from_ultralytics_at_the_end_of_recall():
    """One of two objects is found: COCO counts 51 of 101 points, and Ultralytics the area below them."""
    pytest.importorskip("faster_coco_eval", reason="needs dualvit[recipes]")
    both = truth()
    for row in both.truth["annotations"]:
        row["category_id"] = 0
    assert coco_scores(experiment(), content(BOX), both)["AP"] == pytest.approx(51 / 101)
    metrics = pytest.importorskip("ultralytics.utils.metrics", reason="needs dualvit[yolo]")
    assert metrics.compute_ap(np.array([0.5]), np.array([1.0]))[0] != pytest.approx(51 / 101, abs=0.005)
