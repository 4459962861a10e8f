"""The YAML of an experiment: what it means, and that each mistake is one line with the remedy."""

import dataclasses
from pathlib import Path

import pytest

from dualvit.compare.experiment import FOLDER, load, parse
from dualvit.compare.settings import ClassifyRecipe, DetectRecipe

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"task": "classify", "data": "digits", "models": ["resnet18"], "epochs": 3}


def test_defaults_and_labels():
    experiment = parse(
        {**LEAST, "models": ["a", {"name": "pyramid_n", "mixer": "outlook"}, {"name": "c", "label": "C"}]}
    )
    assert [entry.label for entry in experiment.models] == ["a", "pyramid_n mixer=outlook", "C"]
    assert [entry.slug for entry in experiment.models] == ["a", "pyramid_n-mixer-outlook", "C"]
    assert experiment.models[1].options == {"mixer": "outlook"}
    assert experiment.recipe == ClassifyRecipe()
    assert (experiment.image_size, experiment.batch, experiment.seeds, experiment.images) == (96, 64, (0,), 1000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.epochs = 5


def test_the_mapping_is_read_back():
    for raw in (
        {**LEAST, "lr": 0.01, "seeds": [3, 1], "reference": "resnet18"},
        {"task": "detect", "data": "x.yaml", "models": ["yolov8n.yaml"], "minutes": 2, "mosaic": 0.5, "device": "0,1"},
    ):
        experiment = parse(raw)
        assert parse(experiment.mapping()) == experiment


def test_digits_are_not_mirrored():
    detect = parse({**LEAST, "task": "detect", "models": ["yolov8n.yaml"]})
    assert detect.recipe == DetectRecipe(mosaic=0.0, scale=0.3, fliplr=0.0)
    assert parse({**LEAST, "task": "detect", "models": ["yolov8n.yaml"], "fliplr": 0.5}).recipe.fliplr == 0.5
    assert parse({**LEAST, "task": "detect", "data": "x.yaml", "models": ["yolov8n.yaml"]}).recipe == DetectRecipe()


def test_1e_3_is_a_number(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("task: classify\ndata: digits\nmodels: [{name: resnet18, drop_rate: 1e-1}]\nepochs: 1\nlr: 1e-3\n")
    experiment = load(file)
    assert experiment.recipe.lr == 1e-3
    assert experiment.models[0].options == {"drop_rate": 0.1}
    assert experiment.output == Path("runs/compare/mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; did you mean epochs?"),
        ({"models": None}, "models is missing"),
        ({"data": None}, "data is missing"),
        ({"task": "detection"}, "task is 'detection'; give classify, detect, segment"),
        ({"minutes": 3}, "both epochs and minutes are given"),
        ({"epochs": None}, "neither epochs nor minutes is given"),
        ({"epochs": "ten"}, "epochs is 'ten'; give a whole number"),
        ({"epochs": 2.5}, "epochs is 2.5; give a whole number"),
        ({"epochs": True}, "epochs is True; give a whole number"),
        ({"epochs": 0}, "epochs is 0; give 1 or more"),
        ({"lr": "fast"}, "lr is 'fast'; give a number"),
        ({"lr": 0}, "lr is 0.0; give more than 0"),
        ({"crop_scale": 2}, "crop_scale is 2.0; give 0.01 to 1"),
        ({"seeds": [0, 0]}, "seeds is [0, 0]; give different numbers"),
        ({"seeds": [-1]}, "seeds is [-1]; give numbers from 0 on"),
        ({"models": "resnet18"}, "models is 'resnet18'; give a list"),
        ({"models": [{"label": "x"}]}, "give a name"),
        ({"models": ["a", "a"]}, "the label 'a' is empty or given twice"),
        ({"models": [{"name": "a", "label": "x\ny"}]}, r"the label 'x\ny' holds a line break or a control character"),
        ({"models": [{"name": "a", "label": "x\ud800"}]}, "holds a line break or a control character"),
        ({"models": [{"name": "a", "label": "é" * 121}]}, "has 242 bytes as a folder's name, and at most 240 are"),
        ({"models": [{"name": "a", "label": "x y"}, {"name": "b", "label": "x/y"}]}, "given twice"),
        ({"reference": "resnet50"}, "reference is 'resnet50', no label of a model; give one of resnet18"),
        ({"device": "gpu"}, "device is 'gpu'; give auto, cpu, cuda"),
        ({"mosaic": 1.0}, "mosaic is a setting of detect and segment, and the task is classify"),
        ({"data": "folder", "images": 100}, "images is for data: digits"),
        ({"task": "detect", "image_size": 100}, "detection needs a multiple of 32, such as 96"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(change, words):
    raw = {key: value for key, value in (LEAST | change).items() if value is not None}
    with pytest.raises(ValueError) as caught:
        parse(raw)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_experiment(tmp_path):
    with pytest.raises(FileNotFoundError, match="no experiment at"):
        load(tmp_path / "absent.yaml")
    for text in ("", "- a\n- b\n"):
        (tmp_path / "empty.yaml").write_text(text)
        with pytest.raises(ValueError, match="holds no settings"):
            load(tmp_path / "empty.yaml")
    (tmp_path / "broken.yaml").write_text("task: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load(tmp_path / "broken.yaml")


@pytest.mark.parametrize(
    "file",
    sorted([*(ROOT / "benchmarks" / "compare").glob("*.yaml"), *FOLDER.glob("*.yaml")]),
    ids=lambda file: file.name,
)
def test_the_shipped_experiments_are_valid(file):
    experiment = load(file)
    assert len(experiment.models) >= 2
    assert len(experiment.seeds) >= 3


def test_an_experiment_that_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a data set of that name is no experiment
    experiment = load("digits")
    assert (experiment.data, experiment.output) == ("digits", Path("runs/compare/digits"))
    (tmp_path / "digits.yaml").write_text("task: classify\ndata: digits\nmodels: [resnet18]\nepochs: 1\n")
    assert [entry.name for entry in load("digits.yaml").models] == ["resnet18"]
    with pytest.raises(
        FileNotFoundError, match="no experiment at digit; give a YAML file, or one that comes with dualvit: digits"
    ):
        load("digit")
