"""Classifiers in int8: scored on folders, with a file that predicts; mistakes in one line."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dualvit.deploy.classified import ClassifierSubject
from dualvit.deploy.metadata import Metadata, read_metadata
from dualvit.deploy.precision import Settings, make, score_shift, write
from dualvit.deploy.predictor import open_predictor
from dualvit.deploy.runtimes import missing
from dualvit.deploy.sources import Source
from dualvit.deploy.subjects import chosen, open_subject
from dualvit.errors import InputError, MissingFileError

SIDE, COLOURS = 32, {"blue": (20, 40, 200), "red": (200, 40, 20)}


class Colour(nn.Module):
    """Tells blue from red by the means of its maps, which are those channels."""

    num_classes = 2

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 2)
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.weight[0, 2] = self.head.weight[1, 0] = 4

    def forward(self, image):
        return self.head(self.conv(image).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """10 pictures to train on and 4 to validate on; one of the red ones is blue."""
    root, draw = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name in COLOURS:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                shown = "blue" if (split, index) == ("val", 1) else name
                noise = draw.integers(-20, 20, (40, 48, 3))
                pixels = np.clip(np.array(COLOURS[shown]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def subject(data, **changes):
    about = Metadata("colour", "classify", ("blue", "red"), (SIDE, SIDE), outputs=("logits",), **changes)
    return ClassifierSubject(Source(Colour().eval(), about), data)


def test_a_classifier_in_int8(folders, tmp_path):
    if missing("openvino") or not find_spec("nncf"):
        pytest.skip("needs dualvit[quantise]")
    ours = subject(folders)
    files = chosen(ours.training_files(), 8, "it")
    assert {file.parent.name for file in files} == set(COLOURS)
    made = make(ours, files, Settings(shift=0.05))
    assert made.measures == {"top-1": (0.75, 0.75)} and made.kept == 1 and made.worst == "top-1"
    assert made.shift.mean < 0.02 and (made.shift.matched, made.shift.lost, made.shift.new) == (4, 0, 0)
    assert made.share > 0.5 and made.floats == ()
    write(made, tmp_path / "colour-int8_openvino_model", "colour", "int8")
    place = tmp_path / "colour-int8_openvino_model"
    assert sorted(file.name for file in place.iterdir()) == ["colour.bin", "colour.xml"]
    assert read_metadata(place).precision == "int8"
    predictor = open_predictor(place)
    assert predictor.precision == "int8"
    said = predictor.predict([Image.open(folders / "val" / "red" / "0.png"), Image.new("RGB", (32, 32), "blue")])
    assert [one["classes"][0]["name"] for one in said] == ["red", "blue"]


def test_errors_are_of_probabilities(folders):
    ours = subject(folders)
    assert ours.error([np.zeros((1, 2))], [np.zeros((1, 2))]) == 0
    assert ours.error([np.array([[0.0, np.log(3)]])], [np.zeros((1, 2))]) == pytest.approx(0.25)
    assert ours.example().shape == (1, 3, SIDE, SIDE)


def test_pictures_whose_class_changes_are_counted_whatever_their_score():
    def best(kind, score):
        return [{"category_id": kind, "bbox": [0, 0, 1, 1], "score": score}]

    before, after = {"a": best(0, 0.02), "b": best(1, 0.6)}, {"a": best(1, 0.02), "b": best(1, 0.5)}
    shift = score_shift(before, after, sure=0.0)
    assert (round(shift.mean, 6), shift.matched, shift.lost, shift.new) == (0.1, 1, 1, 1)


def test_what_does_not_belong_together_is_one_line(folders, tmp_path):
    (tmp_path / "val" / "green").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "green" / "0.png")
    with pytest.raises(InputError, match=r"class 'green' is none of the model's 2; rename or remove"):
        subject(tmp_path)
    about = Metadata("colour", "classify", (), (SIDE, SIDE), outputs=("logits",))
    with pytest.raises(InputError, match=r"^colour knows 2 classes, and .* has 1; give its own data$"):
        ClassifierSubject(Source(Colour(), about), tmp_path)
    with pytest.raises(InputError, match=r"^map is a model for features; give a classifier, or a checkpoint of YOLO$"):
        ClassifierSubject(Source(Colour(), Metadata("map", "features", head="maps")), folders)
    with pytest.raises(MissingFileError, match=r"no model at .*best\.ckpt"):
        open_subject(tmp_path / "best.ckpt", folders)
    with pytest.raises(InputError, match=r"dualvit_n has no weights here"):
        open_subject("dualvit_n", folders)
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"best\.pt has weights of its own; leave --weights out"):
        open_subject(tmp_path / "best.pt", folders, "start")
    with pytest.raises(InputError, match=r"the training split of val has 0 pictures to calibrate on; give at least 8"):
        chosen(subject(folders / "val").training_files(), 8, "the training split of val")
