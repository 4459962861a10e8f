"""The YAML of an experiment: what it means, and that each mistake is one line with the remedy."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.compare.reading import TEMPLATES, load, parse, require

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"task": "classify", "data": "digits", "models": ["resnet18"], "epochs": 3}
YOLO = {"engine": "yolo", "task": "detect", "data": "x.yaml", "models": ["yolov8n.yaml"], "epochs": 3}


def test_defaults_and_labels():
    experiment = parse(
        {**LEAST, "models": ["a", {"name": "pyramid_n", "mixer": "outlook"}, {"name": "c", "label": "C"}]}
    )
    assert [entry.label for entry in experiment.models] == ["a", "pyramid_n mixer=outlook", "C"]
    assert [entry.slug for entry in experiment.models] == ["a", "pyramid_n-mixer-outlook", "C"]
    assert experiment.models[1].options == {"mixer": "outlook"}
    assert (experiment.engine, experiment.recipe) == ("recipe", "laptop-classify")
    assert (experiment.image_size, experiment.batch, experiment.seeds, experiment.images) == (96, 32, (0,), 1000)
    assert parse(YOLO | {"data": "digits"}).images == 400
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.epochs = 5


def test_small_pictures_are_trained_gently():
    """What a comparison of classifiers begins with: AdamW, a cosine with a warm-up, and no mirrored digits."""
    values = parse(LEAST).training()
    assert values["optimizer"] == {"lr": 1e-3, "weight_decay": 0.05, "clip": 1.0}
    assert values["schedule"]["warmup_epochs"] > 0 and "shape" not in values["schedule"]
    assert (values["augment"]["flip"], values["augment"]["crop_scale"]) == (0.0, 0.6)


@pytest.mark.parametrize(
    "raw",
    [
        {**LEAST, "settings": {"optimizer.lr": 0.01}, "seeds": [3, 1], "reference": "resnet18"},
        {**LEAST, "models": [{"name": "a", "settings": {"optimizer": {"lr": 0.1}}, "x": 1}, "b"]},
        {**YOLO, "epochs": None, "minutes": 2, "settings": {"mosaic": 0.5}, "device": "0,1"},
        {**LEAST, "task": "semantic", "recipe": "ade20k-upernet-s", "batch": 2},
        {**LEAST, "score": "test"},
    ],
)
def test_the_mapping_is_read_back(raw):
    experiment = parse({key: value for key, value in raw.items() if value is not None})
    assert parse(experiment.mapping()) == experiment


def test_a_model_may_have_settings_of_its_own():
    models = ["a", {"name": "b", "settings": {"optimizer": {"lr": 0.02}}}]
    experiment = parse({**LEAST, "models": models, "settings": {"optimizer.lr": 0.005, "ema": 0.9}})
    first, second = (experiment.training(entry) for entry in experiment.models)
    assert (first["optimizer"]["lr"], second["optimizer"]["lr"]) == (0.005, 0.02)
    assert first["ema"] == second["ema"] == 0.9
    assert experiment.models[1].label == "b optimizer.lr=0.02"
    assert experiment.decisive()["optimizer.lr"] == 0.005
    yolo = parse({**YOLO, "models": ["yolov8n.yaml", {"name": "yolov8n-dualvit.yaml", "settings": {"lr0": 0.02}}]})
    assert [yolo.training(entry)["lr0"] for entry in yolo.models] == [1e-3, 0.02]


def test_a_test_split_decides_results_and_val_is_as_before():
    assert "score" not in parse(LEAST).decisive() and "score" not in parse(LEAST | {"score": "val"}).mapping()
    assert parse(LEAST | {"score": "test"}).decisive()["score"] == "test"
    with pytest.raises(ValueError, match="score is 'train': input should be 'val' or 'test'"):
        parse(LEAST | {"score": "train"})


def test_the_budget_and_sizes_are_the_experiments():
    values = parse({**LEAST, "image_size": 48, "batch": 5}).training()
    assert (values["schedule"]["epochs"], values["data"]["image_size"], values["data"]["batch"]) == (3, 48, 5)
    timed = parse({"task": "semantic", "data": "x", "models": ["a"], "minutes": 2}).training()["schedule"]
    assert (timed["epochs"], timed["steps"], timed["minutes"]) == (None, None, 2.0)
    detect = parse({**LEAST, "engine": "recipe", "task": "detect", "image_size": 160})
    assert detect.training()["data"]["short_side"] == 160
    assert (detect.metric, parse(YOLO).metric) == ("AP", "mAP50-95")
    assert parse({**YOLO, "epochs": 6}).training()["epochs"] == 6


def test_the_recipes_own_network_has_no_say():
    """Only how it is trained: its name, its options and the weights that it begins with are another model's."""
    experiment = parse({**LEAST, "recipe": "imagenet-s-384", "models": ["resnet18"]})
    network = experiment.training(experiment.models[0])["network"]
    assert (network["name"], network["options"]) == ("resnet18", {})
    assert not {"checkpoint", "weights"} & set(network)


def test_digits_are_not_mirrored():
    digits = parse({**YOLO, "data": "digits"}).training()
    assert (digits["mosaic"], digits["scale"], digits["fliplr"]) == (0.0, 0.3, 0.0)
    assert parse({**YOLO, "data": "digits", "settings": {"fliplr": 0.5}}).training()["fliplr"] == 0.5
    assert parse(YOLO).training()["fliplr"] == 0.5
    for task in ("classify", "detect", "semantic"):
        assert parse({**LEAST, "task": task, "engine": "recipe"}).training()["augment"]["flip"] == 0.0


def test_1e_3_is_a_number(tmp_path):
    file = tmp_path / "mine.yaml"
    text = "task: classify\ndata: digits\nmodels: [{name: resnet18, drop_rate: 1e-1}]\nepochs: 1\n"
    file.write_text(text + "settings: {optimizer.lr: 1e-3}\n")
    experiment = load(file)
    assert experiment.settings == {"optimizer.lr": 1e-3}
    assert experiment.models[0].options == {"drop_rate": 0.1}
    assert experiment.output == Path("runs/compare/mine")
    changed = load(file, ["epochs=7", "settings.optimizer.lr=2e-3", "seeds=[1, 2]"])
    assert (changed.epochs, changed.settings, changed.seeds) == (7, {"optimizer.lr": 2e-3}, (1, 2))
    with pytest.raises(ValueError, match=r"mine.yaml: epochs is 0: input should be greater than or equal to 1"):
        load(file, ["epochs=0"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean epochs?"),
        (
            {"models": [{"name": "dualvit_n", "start": True}]},
            "model 'dualvit_n start=True' has start, which is YOLO's; in a recipe it is a setting: "
            "settings: {network.weights: start}",
        ),
        (
            {"models": [{"name": "dualvit_n", "label": "m", "weights": "a.pth"}]},
            "model 'm' has weights, which is YOLO's; in a recipe it is a setting: settings: {network.weights: a.pth}",
        ),
        ({"models": None}, "models is missing"),
        ({"data": None}, "data is missing"),
        ({"task": "detection"}, "task is 'detection'; give classify, detect, semantic, segment"),
        ({"task": "detect"}, "engine is missing, and recipe and yolo have task detect; give one: engine: recipe"),
        ({"engine": "yolo"}, "engine is 'yolo', and task classify is one of recipe; give that engine"),
        ({"engine": "lightning"}, "engine is 'lightning'"),
        ({"minutes": 3}, "both epochs and minutes are given"),
        ({"epochs": None}, "neither epochs nor minutes is given"),
        ({"epochs": "ten"}, "epochs is 'ten': input should be a valid integer"),
        ({"epochs": 2.5}, "epochs is 2.5: input should be a valid integer"),
        ({"epochs": True}, "epochs is True: input should be a valid integer"),
        ({"epochs": 0}, "epochs is 0: input should be greater than or equal to 1"),
        ({"epochs": None, "minutes": 0}, "minutes is 0: input should be greater than or equal to 0.001"),
        ({"image_size": 16}, "image_size is 16: input should be greater than or equal to 32"),
        ({"settings": {"optimizer.lr": "fast"}}, "optimizer.lr is 'fast': input should be a valid number"),
        ({"settings": {"optimizer.lr": 0}}, "optimizer.lr is 0: input should be greater than 0"),
        ({"settings": {"augment.crop_scale": 2}}, "augment.crop_scale is 2: input should be less than or equal to 1"),
        ({"settings": {"optimizer.rl": 1}}, "unknown setting 'rl'"),
        ({"settings": {"data.batch": 1}}, "settings holds data.batch, which is the experiment's own; give it as"),
        ({"settings": [1]}, "settings is [1]; give a mapping"),
        ({"lr": 0.1}, "unknown setting 'lr'; it is called optimizer.lr, and stands in `settings`"),
        ({"mosaic": 1.0}, "unknown setting 'mosaic'; engine recipe has none; remove it"),
        ({**YOLO, "lr": 0.1}, "unknown setting 'lr'; it is called lr0, and stands in `settings`"),
        ({**YOLO, "settings": {"lr": 0.1}}, "unknown setting 'lr'; did you mean lr0?"),
        ({**YOLO, "recipe": "laptop-detect"}, "recipe is for engine: recipe"),
        ({"recipe": "laptop-detect"}, "recipe laptop-detect is of task detect, and the task is classify"),
        ({"models": ["yolov8n.yaml"]}, "model yolov8n.yaml is Ultralytics'; give a timm name, or engine: yolo"),
        ({"models": [{"name": "a", "settings": {"optimizer.lr": 0}}]}, "model 'a optimizer.lr=0': optimizer.lr is 0"),
        ({"seeds": [0, 0]}, "seeds is [0, 0]; give different ones"),
        ({"seeds": [-1]}, "seeds.0 is -1: input should be greater than or equal to 0"),
        ({"models": "resnet18"}, "models is 'resnet18'; give a list"),
        ({"models": [{"label": "x"}]}, "give a name"),
        ({"models": ["a", "a"]}, "the label 'a' is empty or given twice"),
        ({"models": [{"name": "a", "label": "x\ny"}]}, r"the label 'x\ny' holds a line break or a control character"),
        ({"models": [{"name": "a", "label": "x\ud800"}]}, "holds a line break or a control character"),
        ({"models": [{"name": "a", "label": "é" * 121}]}, "has 242 bytes as a folder's name, and at most 220 are"),
        ({"models": [{"name": "a", "label": "x y"}, {"name": "b", "label": "x/y"}]}, "given twice"),
        ({"reference": "resnet50"}, "reference is 'resnet50', no label of a model; give one of resnet18"),
        ({"device": "gpu"}, "device is 'gpu'; give auto, cpu, cuda"),
        ({"data": "folder", "images": 100}, "images is for data: digits"),
        ({**YOLO, "image_size": 100}, "YOLO needs a multiple of 32, such as 96"),
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


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "compare").glob("*.yaml")), ids=lambda file: file.name)
def test_the_experiments_of_the_results_are_valid(file):
    experiment = load(file)
    assert len(experiment.models) >= 2
    assert len(experiment.seeds) >= 3
    assert experiment.data.startswith("datasets/")


@pytest.mark.parametrize("file", sorted(TEMPLATES.glob("*.yaml")), ids=lambda file: file.name)
def test_the_templates_are_valid(file):
    experiment = load(file.stem)
    assert len(experiment.models) >= 2
    if experiment.data == "digits":
        require(experiment)
    assert f"dualvit compare {file.stem}" in file.read_text()


def test_an_experiment_that_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a data set of that name is no experiment
    experiment = load("digits")
    assert (experiment.data, experiment.output) == ("digits", Path("runs/compare/digits"))
    (tmp_path / "digits.yaml").write_text("task: classify\ndata: digits\nmodels: [resnet18]\nepochs: 1\n")
    assert [entry.name for entry in load("digits.yaml").models] == ["resnet18"]
    with pytest.raises(
        FileNotFoundError, match=r"no experiment at digit; give a YAML file, or one that comes with dualvit: .*digits"
    ):
        load("digit")


def test_no_library_is_imported_to_read_an_experiment():
    code = (
        "from dualvit_cli.shared import before_torch\nimport sys\n"
        "with before_torch():\n    from dualvit.compare.reading import load, require\n    require(load('digits'))\n"
        "print([name for name in ('torch', 'timm', 'lightning', 'ultralytics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]"], done.stderr
