"""The examples in docstrings run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "dualvit"
MODULES = [
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(SOURCE.rglob("*.py"))
    if ">>> " in file.read_text()
]
OPTIONAL = {"yolo": "ultralytics", "recipes": "lightning", "compare": "lightning"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if library := OPTIONAL.get(name.split(".")[0]):
        pytest.importorskip(library)
    module = importlib.import_module("dualvit" if name == "__init__" else f"dualvit.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
