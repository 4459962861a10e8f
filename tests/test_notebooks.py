"""The notebooks in examples/ run as they stand, show pictures, and are stored without outputs."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs dualvit[dev]")
nbclient = pytest.importorskip("nbclient", reason="needs dualvit[dev]")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def test_there_are_notebooks():
    assert [file.stem for file in NOTEBOOKS] == ["1-own-data", "2-timm-backbone-and-classifier", "3-explanations"]


@by_name
def test_it_is_stored_without_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@by_name
def test_it_runs_and_shows_pictures(file, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel", reason="needs dualvit[dev]")
    for library in ("ultralytics", "sklearn", "matplotlib"):
        pytest.importorskip(library, reason="needs dualvit[all]")
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel has its own
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    if folder := os.environ.get("DUALVIT_NOTEBOOKS"):  # to look at what they show
        nbformat.write(notebook, Path(folder) / file.name)
