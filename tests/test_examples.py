"""The examples in docstrings, and the Python of README.md, run as they stand."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "dualvit"
MODULES = [
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(SOURCE.rglob("*.py"))
    if ">>> " in file.read_text()
]
OPTIONAL = {"yolo": "ultralytics", "tasks": "lightning"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if library := OPTIONAL.get(name.split(".")[0]):
        pytest.importorskip(library)
    module = importlib.import_module("dualvit" if name == "__init__" else f"dualvit.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_python():
    """Blocks run in turn; lines that train or open a file of the reader's are left out."""
    pytest.importorskip("ultralytics")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict = {}
    for block in blocks:
        lines = [line for line in block.splitlines() if not re.search(r"\.train\(|\.predict\(|\.export\(|\.pth", line)]
        exec("\n".join(lines), names)
    assert names["logits"].shape == (1, 10)
    assert [m.shape[1] for m in names["maps"]] == [64, 128, 320, 448]
