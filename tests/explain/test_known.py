"""`dualvit explain --benchmark`: the cost is said first, and a picture shows what decides beside each map."""

import pytest
from PIL import Image

from dualvit.errors import InputError
from dualvit.explain import benchmark
from dualvit.explain.benchmark import Learning, Trained
from dualvit.explain.known import run_known

TINY = Learning(size=32, pictures=12, steps=2, batch=4)


def test_passes_first_then_scores_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "controlled", lambda cue, *_: Trained(cue, 1.0, 0.3, 0.6, 0.04))
    lines = []
    found, files = run_known("layercam,eigencam", tmp_path, lines.append, lambda *_: None, 6, TINY)
    assert lines == ["3 networks learn in 2 steps each; then 3 times 6 pictures with 2 passes each: 36 passes at 32 px"]
    assert files == [tmp_path / "benchmark.json", tmp_path / "evidence.png"] and files[0].is_file()
    assert {one.method for one in found.scores} <= {"layercam", "eigencam"}
    # Four columns, one of the pictures, one of what decides, and one per method; three rows.
    width, height = Image.open(files[1]).size
    assert width == 4 * 360 + 3 * 12 and height == 3 * 390 + 2 * 12


def test_unknown_methods_are_refused_before_anything_learns(tmp_path):
    with pytest.raises(InputError, match="method 'gradcam' is unknown"):
        run_known("gradcam", tmp_path, print, lambda *_: None)
    assert list(tmp_path.iterdir()) == []
