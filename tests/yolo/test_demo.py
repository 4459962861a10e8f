"""The demo on a handful of images: it trains, draws, and leaves earlier runs alone."""

import io
import re

import pytest
from PIL import Image
from rich.console import Console

from dualvit.yolo import demo


@pytest.mark.slow
def test_the_demo_runs_twice(tmp_path, monkeypatch):
    for name, value in {"IMAGES": 20, "IMAGE_SIZE": 64, "EPOCHS": 1, "PICTURES": 3}.items():
        monkeypatch.setattr(demo, name, value)
    screen = io.StringIO()
    first = demo.run(tmp_path, Console(file=screen, width=100))
    assert set(first) == {"mAP50", "mAP50-95", "minutes"}
    assert 0 <= first["mAP50-95"] <= first["mAP50"] <= 1
    width, height = Image.open(tmp_path / "run" / "predictions.png").size
    assert width > 2 * height > 128  # three pictures in a row of four
    assert len(list((tmp_path / "run" / "predictions").iterdir())) == 3
    assert "yolov8n-dualvit" in screen.getvalue()
    (noise,) = re.findall(r"^ *noise +(0\.\d{3}) +(0\.\d{3})", screen.getvalue(), re.MULTILINE)
    (after,) = re.findall(r"^ *start +(0\.\d{3}) +(0\.\d{3})", screen.getvalue(), re.MULTILINE)
    assert 0 <= float(noise[1]) <= float(noise[0]) <= 1
    assert (tmp_path / "noise" / "weights" / "best.pt").exists()
    assert after == (f"{first['mAP50']:.3f}", f"{first['mAP50-95']:.3f}")
    kept = (tmp_path / "run" / "weights" / "best.pt").read_bytes()
    demo.run(tmp_path, Console(file=screen, width=100))
    others = [folder for folder in tmp_path.glob("run*") if folder.name != "run"]  # run2 or run-2, by version
    assert len(others) == 1
    assert (others[0] / "weights" / "best.pt").exists()
    assert (tmp_path / "run" / "weights" / "best.pt").read_bytes() == kept
