"""Each model's own learning rate: what is tried, on which pictures, and what becomes of a rate that fails."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

pytest.importorskip("lightning", reason="needs dualvit[recipes]")
pytest.importorskip("matplotlib", reason="needs dualvit[recipes]")

from dualvit.compare import runner as compare
from dualvit.compare.engine import DataSet, prepare_data
from dualvit.compare.reading import load, parse
from dualvit.compare.results import Result, require_different_seeds
from dualvit.compare.sweep import Swept, at_chosen_rates, beyond, choose, held_out, trials
from dualvit.data.yolo_layout import read_pairs

MACHINE = {"versions": {}, "commit": None, "date": "2026-01-01", "hardware": "a machine", "threads": 1}


def result(score, label="a", seed=0, **more):
    return Result(
        label=label, name="a", options={}, seed=seed, metric="top1", last=score, best=score, best_epoch=1,
        epochs=[{"epoch": 1}], seconds=60.0, peak_memory=0, **MACHINE, **more,
    )  # fmt: skip


def setting(**more):
    raw = {"task": "classify", "data": "digits", "models": ["resnet18", "resnet34"], "epochs": 9, "seeds": [3, 4]}
    return parse(raw | {"sweep": True} | more)


def test_rates_are_widened_while_the_best_stands_at_an_end():
    """The best rate is 0.032, three doublings above the experiment's own 1e-3's last one."""
    peak, told = 0.032, []

    def train(experiment, data):
        told.append([entry.label for entry in experiment.models])
        rates = {entry.label: entry.settings["optimizer.lr"] for entry in experiment.models}
        return {label: result(1 / (1 + abs(rate - peak)), label) for label, rate in rates.items()}

    experiment = setting(models=["resnet18"], settings={"optimizer.lr": 1e-3})
    (swept,) = choose(experiment, DataSet("x", 2, 8, 2), train)
    assert told[0] == [f"resnet18 at {rate:g}" for rate in (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)]
    assert [name for (name,) in told[1:]] == [f"resnet18 at {rate:g}" for rate in (8e-3, 1.6e-2, 3.2e-2, 6.4e-2)]
    assert swept.rate == pytest.approx(peak)
    assert len(swept.scores) == 10 and swept.seconds == 600
    chosen = at_chosen_rates(experiment, [swept])
    assert chosen.models[0].settings == {"optimizer.lr": swept.rate}
    assert parse(chosen.mapping()) == chosen


def test_ends():
    flat = {1.0: result(0.3), 2.0: result(0.2), 4.0: result(0.1)}
    assert beyond(flat, 10) == [0.5]
    assert beyond(flat, 3) == []
    assert beyond(dict.fromkeys((1.0, 2.0, 4.0), result(0.3)), 10) == []  # of equal rates the middle one
    assert beyond({1.0: result(0.1), 2.0: result(0.2), 4.0: "the loss is not finite"}, 10) == []
    assert beyond({1.0: result(0.1), 2.0: result(0.3), 4.0: result(0.2)}, 10) == []
    assert beyond({1.0: "killed", 2.0: "killed"}, 10) == []


def test_a_rate_of_its_own_is_not_swept():
    experiment = setting(models=["resnet18", {"name": "resnet34", "settings": {"optimizer.lr": 0.1}}])
    told = []

    def train(stage, data):
        told.extend(entry.name for entry in stage.models)
        return {entry.label: result(0.5 - abs(entry.settings["optimizer.lr"] - 1e-3)) for entry in stage.models}

    choose(experiment, DataSet("x", 2, 8, 2), train)
    assert set(told) == {"resnet18"}


def test_trials_cost_a_share_and_one_seed():
    stage = trials(setting(), {"resnet18": [0.1]})
    assert (stage.epochs, stage.seeds, stage.sweep, stage.null_row) == (3, (3,), None, None)
    assert stage.settings["data.hold_out"] == 5
    minutes = trials(replace(setting(), epochs=None, minutes=6.0), {"resnet18": [0.1]})
    assert (minutes.epochs, minutes.minutes) == (None, pytest.approx(2.0))


def test_a_choice_among_models_that_learned_nothing_is_called_chance():
    kept = {"rate": 6.25e-5, "failed": {}, "seconds": 1.0}
    assert Swept("a", scores={"6.25e-05": 0.003, "0.002": 0.001}, **kept).doubt() == (
        "a learned nothing at any rate of the sweep (best 0.3), so its rate is chance; give the sweep a larger budget, "
        "or this row its own rate in settings."
    )
    assert Swept("a", scores={"6.25e-05": 0.003, "0.002": 0.01}, **kept).doubt() == ""


def test_all_rates_failed():
    with pytest.raises(RuntimeError, match=r"resnet18: none of its 6 learning rates could be trained: the loss is"):
        choose(setting(), DataSet("x", 2, 8, 2), lambda stage, data: {e.label: "the loss is nan" for e in stage.models})


def test_held_out_pictures_of_folders(experiment):
    """24 pictures to train on, of which each fifth validates; the 8 validation pictures have no part in it."""
    found = load(experiment(sweep=True))
    part = held_out(found, DataSet(found.data, 2, 24, 8))
    assert (part.train, part.val) == (20, 4)


@pytest.mark.parametrize("every", [2, 5])
def test_held_out_pictures_of_yolo(tmp_path, layout, every):
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    data = layout / "data.yaml"
    for index in range(10):  # beside two that are there
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            folder = layout / kind / "train"
            shutil.copy(folder / f"a.{suffix}", folder / f"{index}.{suffix}")
    found = parse(
        {"engine": "yolo", "task": "detect", "data": str(data), "models": ["yolov8n.yaml"], "epochs": 3,
         "sweep": {"every": every}, "output": str(tmp_path / "out")}
    )  # fmt: skip
    part = held_out(found, prepare_data(found))
    assert (part.train, part.val) == (12 - 12 // every, 12 // every)
    every_picture = {picture.name for picture, _ in read_pairs(data, "train")[1]}
    parts = [{picture.name for picture, _ in read_pairs(part.path, split)[1]} for split in ("train", "val")]
    assert parts[0] | parts[1] == every_picture and not parts[0] & parts[1]
    assert all(label.is_file() for _, label in read_pairs(part.path, "val")[1])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sweep": {"rates": [1e-3, 2e-3]}}, "sweep.rates is [0.001, 0.002]: give at least 3"),
        ({"sweep": {"every": 1}}, "sweep.every is 1"),
        ({"sweep": {"ratse": [1]}}, "unknown setting 'ratse'; did you mean rates"),
        ({"sweep": 3}, "sweep is 3"),
        ({"null_row": "resnet"}, "null_row is 'resnet', no label of a model"),
    ],
)
def test_mistakes_are_one_line(keys, words):
    with pytest.raises(ValueError) as caught:
        setting(**keys)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_pictures_to_hold_out(experiment):
    found = load(experiment(sweep={"every": 25}))
    words = r"^one of 25 pictures to train on is held out \(hold_out; sweep.every of a comparison\), and there are 24; "
    with pytest.raises(ValueError, match=words + "give at most 24$"):
        held_out(found, DataSet(found.data, 2, 24, 8))


def test_held_out_pictures_without_an_object(tmp_path, layout):
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    (layout / "labels" / "train" / "b.txt").write_text("")  # the one of two that is held out
    found = parse(
        {"engine": "yolo", "task": "detect", "data": str(layout / "data.yaml"), "models": ["yolov8n.yaml"],
         "epochs": 3, "sweep": {"every": 2}, "output": str(tmp_path / "out")}
    )  # fmt: skip
    words = r"^the sweep holds out one of 2 training pictures, and these do: .*; or give another sweep.every$"
    with pytest.raises(ValueError, match=words):
        held_out(found, prepare_data(found))


def test_what_one_answer_for_everything_scores_is_nothing_learned():
    swept = Swept("a", 1e-3, {"0.001": 0.318, "0.002": 0.31}, {}, 60.0, constant=0.316)
    assert swept.doubt() == (
        "a learned nothing at any rate of the sweep (best 31.8, and one answer for everything 31.6), so its rate is "
        "chance; give the sweep a larger budget, or this row its own rate in settings."
    )
    assert replace(swept, constant=0.25).doubt() == ""


def test_a_best_rate_at_the_end_is_said():
    swept = Swept("a", 2e-3, {"0.0005": 0.3, "0.001": 0.4, "0.002": 0.5}, {}, 60.0, most=3)
    words = "a is best at the highest of its 3 rates, and one beyond may be better: give other sweep.rates, or a larger"
    assert swept.doubt() == f"{words} sweep.most."
    assert replace(swept, rate=5e-4).doubt().startswith("a is best at the lowest of its 3 rates")
    assert replace(swept, rate=1e-3).doubt() == replace(swept, most=4).doubt() == ""


def test_other_rates_are_refused_before_one_is_trained(experiment, place):
    path = experiment(models=["tiny_test"], epochs=1, seeds=[0], sweep={"rates": [1e-3, 2e-3, 4e-3], "most": 3})
    out = place / "out"
    (out / "cells" / "tiny_test-s0").mkdir(parents=True)
    (out / "cells" / "tiny_test-s0" / "log.txt").touch()
    found = load(path)
    compare.same_settings(found, prepare_data(found))
    changed = experiment(models=["tiny_test"], epochs=1, seeds=[0], sweep={"rates": [1e-2, 2e-2, 4e-2], "most": 3})
    with pytest.raises(ValueError, match=r"are of other settings \(sweep was "):
        compare.run(changed, Console(file=io.StringIO()))
    assert not (out / "sweep").exists() or not list((out / "sweep").glob("cells/*"))


@pytest.mark.slow
def test_a_sweep_and_a_null_row_from_the_command(experiment, place):
    """Rates that fail are a note; the chosen ones are trained, kept, and in the report with their cells."""
    models = ["tiny_test", {"name": "tiny_test", "label": "wide", "width": 8}]
    path = experiment(
        models=models, epochs=1, seeds=[0, 1], jobs=2, batch=4, null_row="wide",
        sweep={"rates": [1e-3, 4e-3, 1e38], "most": 4, "budget": 1.0},
    )  # fmt: skip
    screen = io.StringIO()
    assert compare.run(path, Console(file=screen, width=200))
    text = screen.getvalue()
    assert "note: tiny_test at 1e+38 failed: the loss is not finite" in text
    assert "wide, trained again under other seeds, differs from itself by" in text
    found = json.loads((place / "out" / "results.json").read_text())
    swept = {one["label"]: one for one in found["sweep"]}
    assert set(swept) == {"tiny_test", "wide"} and swept["wide"]["failed"].keys() == {"1e+38"}
    assert [row["label"] for row in found["rows"]] == ["tiny_test", "wide", "wide (again)"]
    for model in found["config"]["models"]:
        assert model["settings"] == {"optimizer.lr": swept[model["label"]]["rate"]}
    assert len({cell["digests"]["weights"] for cell in found["cells"]}) == len(found["cells"]) == 6
    assert len({cell["digests"]["batch"] for cell in found["cells"]}) == 4  # two models see the same, seed by seed
    page = (place / "out" / "report.html").read_text()
    assert "<h2>Learning rates</h2>" in page and 'class="best"' in page

    stamps = {file: file.stat().st_mtime_ns for file in place.glob("out/**/result.json")}
    assert compare.run(path, Console(file=io.StringIO(), width=200))
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps


def test_seeds_that_change_nothing_are_refused():
    same = [result(0.5, seed=seed, digests={"weights": "w", "batch": str(seed)}) for seed in (0, 1)]
    with pytest.raises(ValueError, match="a: seeds 0 and 1 ended in the same weights, so they say nothing of chance"):
        require_different_seeds(same)
    batches = [result(0.5, seed=seed, digests={"weights": str(seed), "batch": "b"}) for seed in (0, 1)]
    with pytest.raises(ValueError, match="began with the same batch"):
        require_different_seeds(batches)
    resumed = [result(0.5, seed=seed, digests={"weights": str(seed), "batch": ""}) for seed in (0, 1)]
    require_different_seeds([*resumed, result(0.5, label="b", digests={"weights": "0", "batch": "x"})])


def test_yolo_is_compared_without_lightning():
    """dualvit[yolo] alone brings none; what trains YOLO and runs its cells imports none."""
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    code = "import sys; sys.modules['lightning'] = None; import dualvit.compare.runner, dualvit.yolo.engine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
