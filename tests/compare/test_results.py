"""Files of an experiment's folder that say something else than dualvit compare wrote are one line each."""

import copy
import json
from dataclasses import asdict

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.compare.engine import DataSet
from dualvit.compare.experiment import Entry
from dualvit.compare.reading import parse
from dualvit.compare.results import Cost, Costs, Kept, Latency, Progress, Result, read
from dualvit.compare.runner import Cell, same_settings
from dualvit.files import write_json

MACHINE = {"versions": {"torch": "2"}, "commit": None, "date": "2026-01-01", "hardware": "a CPU", "threads": 1}
RESULT = {
    "label": "a", "name": "resnet18", "options": {}, "seed": 0, "metric": "top1", "last": 0.5, "best": 0.5,
    "best_epoch": 1, "epochs": [{"epoch": 1, "top1": 0.5, "loss": None, "seconds": 1.0}], "seconds": 1.0,
    "peak_memory": 1, **MACHINE,
}  # fmt: skip
COSTS = Costs(models={"a": Cost(3_000_000, 2e9, Latency(20.0, 19.0, 21.0, 5))}, cuda=False, **MACHINE)
OTHERS = [
    "{}",
    "[]",
    "null",
    "3",
    '"a"',
    "{",
    "",
    "[" * 100_000,
    '{"a": ' * 100_000,
    "NaN",
    '{"label": 1}',
    '{"models": 1}',
]


def changed(whole, *path, value):
    whole = copy.deepcopy(whole)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


@pytest.mark.parametrize("kind", [Result, Costs, Kept])
@pytest.mark.parametrize("text", OTHERS)
def test_other_json_is_one_line(tmp_path, kind, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"x.json .*; delete it, and run the command again") as error:
        read(kind, file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", [text for text in OTHERS if not text.startswith('{"') and text != "{}"])
def test_progress_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(ValueError, match=r"progress.json .*; delete it, and run the command again"):
        Cell(Entry("resnet18", "a"), 0, tmp_path, "top1").progress()


def test_what_is_written_is_read(tmp_path):
    for content in (Result(**RESULT), COSTS, Kept({}, {}), Progress([{"epoch": 1.0}], 0.5, 3.0)):
        write_json(tmp_path / "x.json", asdict(content))
        assert read(type(content), tmp_path / "x.json") == content
    assert read(Result, tmp_path / "absent.json") is None
    (tmp_path / "x.json").write_text(json.dumps(RESULT | {"of another version": 1}))
    assert read(Result, tmp_path / "x.json") == Result(**RESULT)


def test_results_are_readable():
    assert str(Result(**RESULT)) == "a seed 0: top1 50.0 after 1 epochs"
    assert str(COSTS.models["a"]) == "3.00 M parameters, 2.00 G MACs, 20.0 ms"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("last",), float("nan")), (("last",), 7.0), (("last",), "0.5"), (("best",), None), (("epochs",), []),
        (("epochs", 0), {"epoch": 1}), (("epochs", 0, "top1"), None), (("epochs", 0, "top1"), float("inf")),
        (("label",), "b"), (("name",), "resnet50"), (("seed",), 3), (("metric",), "miou"), (("threads",), -1),
        (("options",), []), (("versions",), {"torch": 2}), (("hardware",), ["x"]), (("peak_memory",), 1e300),
    ],
)  # fmt: skip
def test_a_result_that_is_none_of_its_cell(tmp_path, path, value):
    cell = Cell(Entry("resnet18", "a"), 0, tmp_path, "top1")
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    assert cell.result() == Result(**RESULT)
    (tmp_path / "result.json").write_text(json.dumps(changed(RESULT, *path, value=value)))
    with pytest.raises(ValueError, match=r"result.json") as error:
        cell.result()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", OTHERS)
def test_settings_that_are_none(tmp_path, text):
    (tmp_path / "cells" / "a-s0" / "run").mkdir(parents=True)
    (tmp_path / "experiment.json").write_text(text)
    experiment = parse({"task": "classify", "data": "x", "models": ["resnet18"], "epochs": 1, "output": str(tmp_path)})
    with pytest.raises(ValueError, match=r"experiment.json .*; delete .*, or name another `output`"):
        same_settings(experiment, DataSet("x", 2, 2, 2))
    assert (tmp_path / "experiment.json").read_text() == text


def test_a_file_that_may_not_be_read_is_no_file_that_is_not_there(tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(OSError, match=r"cannot read .*result.json"):
        Cell(Entry("resnet18", "a"), 0, tmp_path, "top1").result()
