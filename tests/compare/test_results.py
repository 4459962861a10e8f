"""Files of an experiment's folder that say something else than dualvit compare wrote are one line each."""

import copy
import json

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.compare.experiment import Entry, parse
from dualvit.compare.results import Cost, Kept, Progress, Result, read
from dualvit.compare.runner import Cell, same_settings

MACHINE = {"versions": {"torch": "2"}, "commit": None, "date": "2026-01-01", "hardware": "a CPU", "threads": 1}
RESULT = {
    "label": "a", "name": "resnet18", "options": {}, "seed": 0, "metric": "top1", "last": 0.5, "best": 0.5,
    "best_epoch": 1, "epochs": [{"epoch": 1, "top1": 0.5, "loss": None, "seconds": 1.0}], "seconds": 1.0,
    "peak_memory": 1, **MACHINE,
}  # fmt: skip
COST = {"models": {"a": {"parameters": 1, "macs": 2, "latency": {"median": 1, "low": 1, "high": 1}}}, "cuda": False}
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


@pytest.mark.parametrize("kind", [Result, Cost, Kept, Progress])
@pytest.mark.parametrize("text", OTHERS)
def test_other_json_is_one_line(tmp_path, kind, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"x.json .*; delete it, and run the command again") as error:
        read(kind, file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_what_is_written_is_read(tmp_path):
    for kind, content in ((Result, RESULT), (Cost, COST | MACHINE), (Kept, {"settings": {}, "models": {}})):
        (tmp_path / "x.json").write_text(json.dumps(content))
        assert read(kind, tmp_path / "x.json") == content
    assert read(Result, tmp_path / "absent.json") is None


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
    assert cell.result() == RESULT
    (tmp_path / "result.json").write_text(json.dumps(changed(RESULT, *path, value=value)))
    with pytest.raises(ValueError, match=r"result.json") as error:
        cell.result()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", OTHERS)
def test_settings_that_are_none(tmp_path, text):
    from dualvit.compare.build import Data

    (tmp_path / "cells" / "a-s0" / "run").mkdir(parents=True)
    (tmp_path / "experiment.json").write_text(text)
    experiment = parse({"task": "classify", "data": "x", "models": ["resnet18"], "epochs": 1, "output": str(tmp_path)})
    with pytest.raises(ValueError, match=r"experiment.json .*; delete .*, or name another `output`"):
        same_settings(experiment, Data("x", 2, 2, 2))
    assert (tmp_path / "experiment.json").read_text() == text


def test_a_file_that_may_not_be_read_is_no_file_that_is_not_there(tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(OSError, match=r"cannot read .*result.json"):
        Cell(Entry("resnet18", "a"), 0, tmp_path, "top1").result()
