"""The demo on a handful of images: it trains, draws, and leaves earlier runs alone."""

import io
import re

import pytest
from PIL import Image
from rich.console import Console

from dualvit.yolo import demo


def test_the_checkpoint_is_small_and_knows_ten_digits():
    from dualvit.yolo.bundle import read_bundle

    assert demo.CHECKPOINT.stat().st_size <= 8_000_000
    bundle = read_bundle(demo.CHECKPOINT)
    assert bundle.task == "detect"
    assert list(bundle.names.values()) == [str(digit) for digit in range(10)]


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
    (before,) = re.findall(r"^ *before +(0\.\d{3}) +(0\.\d{3})", screen.getvalue(), re.MULTILINE)
    (after,) = re.findall(r"^ *after +(0\.\d{3}) +(0\.\d{3})", screen.getvalue(), re.MULTILINE)
    assert float(before[1]) > 0.05  # the checkpoint knows digits, if not of this size
    assert after == (f"{first['mAP50']:.3f}", f"{first['mAP50-95']:.3f}")
    kept = (tmp_path / "run" / "weights" / "best.pt").read_bytes()
    demo.run(tmp_path, Console(file=screen, width=100))
    others = [folder for folder in tmp_path.glob("run*") if folder.name != "run"]  # run2 or run-2, by version
    assert len(others) == 1
    assert (others[0] / "weights" / "best.pt").exists()
    assert (tmp_path / "run" / "weights" / "best.pt").read_bytes() == kept
