"""YOLO on pictures as people have them: turned, huge, very thin, no file at all, and with one name."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics.data import build_yolo_dataset
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG, LOGGER, IterableSimpleNamespace

from dualvit.errors import InputError
from dualvit.yolo import YOLO

BOMB = "it has 196000000 pixels, and the limit is 150000000; shrink it, or set DUALVIT_MAX_PIXELS=196000000"


@pytest.fixture(scope="module")
def model():
    return YOLO("yolov8n-dualvit.yaml")


@pytest.fixture
def good():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def samples(root, split="train"):
    """The samples that YOLO validates on: not augmented, each box as shares of the picture."""
    settings = IterableSimpleNamespace(**{**vars(DEFAULT_CFG), "imgsz": 96, "task": "detect"})
    data = check_det_dataset(str(root / "data.yaml"), autodownload=False)
    return build_yolo_dataset(settings, data[split], 1, data, mode="val", rect=False)


def test_the_box_covers_what_recipes_see(case):
    for sample in samples(case("rotated-photographs")):
        assert tuple(sample["ori_shape"]) == (96, 64)
        assert torch.allclose(
            sample["bboxes"][0], torch.tensor([0.625 * 64 / 96 + 16 / 96, 0.375, 16 / 96, 0.25]), atol=1e-3
        )
        red = sample["img"][:, 25:47, 16 + 33 : 16 + 47].flatten(1).float().mean(1)  # letterboxed to 96x96
        assert (red - torch.tensor([220.0, 30, 30])).abs().max() < 15


def test_other_suffixes_and_leftovers(case):
    assert len(samples(case("other-suffixes"))) == 9
    assert len(samples(case("mac-leftovers"))) == 4
    grey = samples(case("sixteen-bit-grey"))[0]["img"][:, 48]
    assert grey[0].tolist() == [value >> 8 for value in np.linspace(0, 65535, 96).astype(np.uint16).tolist()]


def test_a_bomb_and_a_pipe_count_as_corrupt(case, monkeypatch, caplog):
    root = case("very-large-picture")
    os.mkfifo(root / "images/val/pipe.jpg")
    begun = time.monotonic()
    found = samples(root, "val")
    assert len(found) == 4 and time.monotonic() - begun < 60
    assert not any("pipe.jpg" in file for file in BaseDataset.get_img_files(
        SimpleNamespace(prefix="", fraction=1.0), str(root / "images/val")
    ))  # fmt: skip


def test_predicting_goes_on(model, good, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (os.fsdecode(b"caf\xe9.png"), "n" * 251 + ".png", "ok.png"):
        good.save(folder / name)
    Image.new("RGB", (1, 20000)).save(folder / "thin.png")
    Image.new("1", (14000, 14000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    monkeypatch.setattr(LOGGER, "handlers", [caplog.handler])
    found = list(model.predict(folder, imgsz=32, save=True, project="out", verbose=False, stream=True))
    assert [result.orig_shape for result in found] == [(40, 60)] * 3 + [(20000, 1)]
    assert BOMB in caplog.text and "pipe.png: it is no file" in caplog.text
    written = sorted(file.name for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert len(written) == 4 and any(name.startswith("caf\\udce9.") for name in written)


def test_two_pictures_of_one_name_are_two_results(model, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in "ab":
        (tmp_path / folder).mkdir()
        good.save(tmp_path / folder / "1.png")
    for _ in range(2):  # names begin anew in each run
        model.predict(
            ["a/1.png", "b/1.png"], imgsz=32, save=True, project="out", name="run", exist_ok=True, verbose=False
        )
        assert sorted(file.stem for file in (tmp_path / "out/run").iterdir()) == ["1", "1-2"]


def test_no_input_is_overwritten(model, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good.save(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    model.predict(
        "a.jpg", imgsz=32, save=True, project=str(tmp_path.parent), name=tmp_path.name, exist_ok=True, verbose=False
    )
    assert (tmp_path / "a.jpg").read_bytes() == before and (tmp_path / "a-2.jpg").is_file()


def test_the_memory_of_a_thin_picture_is_bounded(tmp_path, monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda image, size, *rest, **more: (sizes.append(size), resize(image, size, *rest, **more))[1],
    )
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (1, 20000)).save(tmp_path / "thin.png")
    YOLO("yolov8n-dualvit-cls.yaml").predict("thin.png", imgsz=32, verbose=False)
    assert sizes == [(32, 64 * 32)]


def test_a_thin_picture_of_a_class_is_named(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / "ok.png")
            (tmp_path / split / name / "._ok.png").write_bytes(b"\0\5\x16\7")
    Image.new("RGB", (10, 700)).save(tmp_path / "train/a/thin.png")
    with pytest.raises(InputError, match=r"1 of 3 train images or their labels cannot be read: .*thin.png"):
        YOLO("yolov8n-dualvit-cls.yaml").train(
            data=str(tmp_path), epochs=1, imgsz=32, device="cpu", workers=0, plots=False, project=str(tmp_path / "out")
        )


def test_a_picture_beyond_the_limit_is_named_with_the_remedy(tmp_path, monkeypatch):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name, side in (("ok", 32), ("large", 64)):
        Image.new("RGB", (side, side)).save(tmp_path / f"images/{name}.png")
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    monkeypatch.setenv("DUALVIT_MAX_PIXELS", "2000")
    with pytest.raises(InputError, match=r"1 of 2 train images .*large.png: it has 4096 pixels.*DUALVIT_MAX_PIXELS"):
        YOLO("yolov8n-dualvit.yaml").train(
            data=str(tmp_path / "data.yaml"), epochs=1, imgsz=32, device="cpu", workers=0, plots=False,
            project=str(tmp_path / "out"),
        )  # fmt: skip
