"""Latency of what was scored: the cell's own weights, every runtime, ratios in the report, and what was left out."""

import io
import itertools
import json
import statistics

import pytest
import torch
from rich.console import Console

pytest.importorskip("lightning", reason="needs dualvit[recipes]")
pytest.importorskip("matplotlib", reason="needs dualvit[recipes]")

from dualvit.bench.results import Latency
from dualvit.compare import cost, runner
from dualvit.compare.cost import Measurement, Notes, is_current, run_cost
from dualvit.compare.engine import import_modules
from dualvit.compare.latency import columns, lines, table, timings
from dualvit.compare.reading import parse
from dualvit.compare.results import Cost, Costs, Ends, Timed, read
from dualvit.deploy import runtimes
from dualvit.deploy.runtimes import NEEDS, disagreement, missing, open_runtime

MACHINE = {"versions": {"torch": "2"}, "commit": None, "date": "2026-01-01", "hardware": "a CPU", "threads": 1}
BOTH = [name for name in NEEDS if missing(name) is None]
needs_export = pytest.mark.skipif(len(BOTH) < 2, reason="needs dualvit[export]")


def run(path):
    screen = io.StringIO()
    return runner.run(path, Console(file=screen, width=250)), screen.getvalue()


@needs_export
def test_the_scored_weights_run_everywhere(experiment, place):
    """From the YAML to the report; the file answers as the checkpoint's weights do."""
    models = ["tiny_test", {"name": "tiny_test", "label": "wide", "width": 16}]
    done, screen = run(experiment(models=models, epochs=1, seeds=[3], runtimes=BOTH, sustained=1, reference="wide"))
    assert done
    costs = read(Costs, place / "out" / "cost.json")
    assert costs.runtimes == ["eager", "onnxruntime", "openvino"] and costs.notes == []
    assert {"onnxruntime", "openvino"} <= set(costs.versions)
    for label, model in costs.models.items():
        assert model.weights == f"{label}-s3"
        assert model.latency == model.runtimes["eager"].latency
        for timed in model.runtimes.values():
            assert 5 <= len(timed.rounds) == timed.latency.repeats <= 50
            assert timed.ends.first.repeats >= 2 <= timed.ends.last.repeats
    state = torch.load(place / "out/cells/tiny_test-s3/weights/last.ckpt", weights_only=True)["state_dict"]
    import tiny_models

    network = tiny_models.Tiny().eval()
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()}, strict=False)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = network(image).numpy()
    for name in BOTH:
        answer = open_runtime(name, place / "out" / "onnx" / "tiny_test.onnx", 1)(image.numpy())
        assert disagreement(answer, [expected]) < 1e-5

    rows = {row["label"]: row for row in json.loads((place / "out" / "results.json").read_text())["rows"]}
    tiny, wide = (costs.models[label].runtimes["openvino"].rounds for label in ("tiny_test", "wide"))
    ratio = rows["tiny_test"]["runtimes"]["openvino"]["ratio"]
    assert ratio["median"] == pytest.approx(statistics.median(a / b for a, b in zip(tiny, wide, strict=True)))
    assert rows["wide"]["runtimes"]["openvino"]["ratio"] is None
    page = (place / "out" / "report.md").read_text()
    assert "| model | eager, ms | of the reference | onnxruntime, ms | of the reference | OpenVINO, ms |" in page
    assert "Sustained for 1 seconds, all models in turn; the first 0.5 and the last ones:" in screen
    assert "OpenVINO" in (place / "out" / "report.html").read_text()


def test_what_is_not_there_is_named(experiment, place, monkeypatch):
    """A missing package, weights that are gone, and an exporter that fails: a line each, and eager all the same."""
    done, _ = run(experiment(epochs=1))
    assert done
    here = {"onnxruntime": ("torch",), "openvino": ("absent_package",)}
    monkeypatch.setattr(runtimes, "NEEDS", here)
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    raw = json.loads((place / "out" / "cost-spec.json").read_text())
    raw["experiment"]["runtimes"] = ["onnxruntime", "openvino"]
    (place / "out" / "cells" / "tiny_test-s0" / "weights" / "last.ckpt").write_bytes(b"PK cut")

    def export(*_):
        raise RuntimeError("no symbol\nfor aten::strange")

    monkeypatch.setattr("dualvit.compare.recipe_engine.export_onnx", export)
    (place / "out" / "cost-spec.json").write_text(json.dumps(raw))
    run_cost(place / "out")
    found = read(Costs, place / "out" / "cost.json")
    assert found.models["tiny_test"].weights == "" and set(found.models["tiny_test"].runtimes) == {"eager"}
    missing_, fresh, failed = found.notes
    assert missing_ == "openvino was not measured: absent_package is not installed; dualvit[export] brings it"
    assert fresh.startswith("tiny_test: measured with fresh weights: ") and "last.ckpt is damaged" in fresh
    assert failed == "tiny_test: not measured in onnxruntime: no symbol for aten::strange"
    asked = parse(raw["experiment"])
    assert is_current(found, asked, ["tiny_test"], cuda=False)
    monkeypatch.setattr(runtimes, "NEEDS", dict.fromkeys(here, ("torch",)))  # now it is installed
    assert not is_current(found, asked, ["tiny_test"], cuda=False)


@needs_export
def test_a_runtime_that_disagrees_or_fails_is_named(place, monkeypatch):
    raw = {"task": "classify", "data": str(place / "data"), "models": ["tiny_test"], "imports": ["tiny_models"]}
    asked = parse(raw | {"epochs": 1, "image_size": 32, "batch": 8, "output": str(place)})
    import_modules(asked)
    answers, real = iter([0.5, float("inf"), 0.0]), open_runtime

    def open_again(name, *rest):
        if name == "openvino" and next(opened) == 2:
            raise ValueError("no such\nnode")
        return real(name, *rest)

    opened = itertools.count(1)
    monkeypatch.setattr(cost, "disagreement", lambda *_: next(answers))
    monkeypatch.setattr(cost, "open_runtime", open_again)
    measured = Measurement(asked, {"cuda": False, "threads": 1, "data": str(place / "data"), "classes": 2})
    for _ in range(2):
        measured.add(asked.models[0])
    assert measured.notes.lines() == [
        "tiny_test: onnxruntime is up to 0.5 off eager's answer to a picture",
        "tiny_test: openvino answers in other shapes than eager, or with what is no number",
        "tiny_test: not measured in openvino: no such node",
    ]


def test_on_a_gpu_eager_alone_is_measured(place):
    raw = {"task": "classify", "data": str(place), "models": ["a"], "epochs": 1, "image_size": 32, "batch": 8}
    measured = Measurement(parse(raw), {"cuda": True, "threads": 1, "labels": [], "data": "", "classes": 2})
    assert list(measured.steps) == ["eager"]
    (note,) = measured.notes.lines()
    assert note == "onnxruntime and openvino: on the CPU alone, and these models are measured on a GPU"


def test_notes_join_the_models_that_they_hold_for():
    notes = Notes()
    for label in ("a", "b"):
        notes.add("no export", label)
    notes.add("no OpenVINO")
    assert notes.lines() == ["a, b: no export", "no OpenVINO"]


def timed(*rounds, ends=None):
    return Timed(Latency.of([value / 1e3 for value in rounds]), list(rounds), ends)


@pytest.fixture
def costs():
    """A reference in both, a model as slow as it in eager and half as slow again in onnxruntime, and one in eager."""
    ends = Ends(Latency(10.0, 9.0, 11.0, 6), Latency(15.0, 14.0, 16.0, 4))
    found = {
        "stock": {"eager": timed(10.0, 40.0, 10.0), "onnxruntime": timed(4.0, 4.0, 8.0)},
        "ours": {"eager": timed(10.0, 40.0, 10.0, ends=ends), "onnxruntime": timed(6.0, 6.0, 12.0)},
        "other": {"eager": timed(20.0, 80.0, 20.0)},
    }
    models = {label: Cost(1, 1.0, own["eager"].latency, own, "") for label, own in found.items()}
    return Costs(
        models=models, cuda=False, runtimes=["eager", "onnxruntime"], notes=["a note"], sustained=600, **MACHINE
    )


def test_tables_of_latency(costs):
    reference = costs.models["stock"]
    found = {label: timings(own, None if label == "stock" else reference) for label, own in costs.models.items()}
    assert found["ours"]["onnxruntime"].ratio.median == 1.5 == found["ours"]["onnxruntime"].ratio.high
    assert columns(list(found.values())) == (["onnxruntime"], [["4.0 ms"], ["6.0 ms"], [""]])
    heads, rows = table(found, "stock")
    assert heads == ["model", "eager, ms", "of the reference", "onnxruntime, ms", "of the reference"]
    assert rows == [
        ["stock", "10 (10-25)", "reference", "4 (4-6)", "reference"],
        ["ours", "10 (10-25)", "1.00 (1.00-1.00)", "6 (6-9)", "1.50 (1.50-1.50)"],
        ["other", "20 (20-50)", "2.00 (2.00-2.00)", "", ""],
    ]
    assert lines(costs, found) == [
        "a note",
        "Sustained for 600 seconds, all models in turn; the first 60 and the last ones:",
        "ours in eager: 10 ms (9-11), then 15 ms (14-16), 1.50 times",
    ]


def test_odd_values_of_a_stored_file_do_no_harm(costs):
    zero = Latency(0.0, 0.0, 0.0, 2)
    found = {
        "eager": timed(0.0, 0.0, ends=Ends(zero, zero)),
        "onnxruntime": timed(1.0, 2.0),
        "strange": timed(1.0, 2.0),
    }
    odd = Cost(1, 1.0, zero, found)
    own = timings(odd, costs.models["stock"])
    assert list(own) == ["eager", "onnxruntime"] and own["onnxruntime"].ratio is None  # another number of rounds
    assert timings(costs.models["stock"], odd)["eager"].ratio is None
    said = lines(Costs(models={"odd": odd}, cuda=False, **MACHINE), {"odd": own})
    assert said[-1] == "odd in eager: 0 ms (0-0), then 0 ms (0-0)"


def test_eager_alone_needs_no_table(costs):
    found = {"other": timings(costs.models["other"], None)}
    assert table(found, "other")[1] == [] and columns(list(found.values())) == ([], [[]])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"runtimes": ["tensorrt"]}, "runtimes.0 is 'tensorrt': input should be 'onnxruntime' or 'openvino'"),
        ({"runtimes": ["openvino", "openvino"]}, "runtimes is ['openvino', 'openvino']; give different ones"),
        ({"sustained": 0}, "sustained is 0: input should be greater than or equal to 1"),
    ],
)
def test_mistakes_are_one_line(keys, words):
    raw = {"task": "classify", "data": "digits", "models": ["resnet18"], "epochs": 1, **keys}
    with pytest.raises(ValueError) as error:
        parse(raw)
    assert str(error.value) == words
