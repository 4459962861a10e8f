"""What YOLO does besides a plain training: several sets, tuning, other trainers, embeddings, maps, fused models."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import ultralytics.engine.trainer as engine_trainer
from ultralytics.data.utils import img2label_paths
from ultralytics.models.yolo.detect import DetectionTrainer as StockTrainer

from dualvit.weights import CheckpointError
from dualvit.yolo import YOLO, checks
from dualvit.yolo.trainers import DetectionTrainer

SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "amp": False,
    "optimizer": "AdamW", "verbose": False,
}  # fmt: skip
PICTURE = np.zeros((64, 64, 3), np.uint8)


def build(**options):
    return YOLO("yolov8n-timm.yaml", backbone="resnet10t", backbone_lr=0.1, **options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def built(monkeypatch):
    """Of each training: its classes, and each parameter's rate and decay; as our trainer builds the optimizer."""
    found = []
    build_optimizer = DetectionTrainer.build_optimizer

    def spy(trainer, model, *args, **kwargs):
        optimizer = build_optimizer(trainer, model, *args, **kwargs)
        rates = sorted((g["initial_lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups)
        found.append((trainer.data["nc"], rates))
        return optimizer

    monkeypatch.setattr(DetectionTrainer, "build_optimizer", spy)
    return found


def classes_of(digits, folder, count) -> Path:
    """A copy of the digits with so many classes."""
    shutil.copytree(digits.parent, folder)
    for file in map(Path, img2label_paths(list(map(str, folder.glob("images/*/*"))))):
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(" ".join([str(int(row[0]) % count), *row[1:]]) + "\n" for row in rows))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {list('abc'[:count])}\n")
    return folder / "data.yaml"


@pytest.mark.slow
def test_two_sets_are_two_trainings_with_our_options(digits, here, built):
    sets = [classes_of(digits, here / name, count) for name, count in (("two", 2), ("three", 3))]
    scores = build().train(data=list(map(str, sets)), project=str(here / "runs"), **SETTINGS)
    assert set(scores) == {"two", "three"} and all(scores.values())
    for name, data, count in (("two", sets[0], 2), ("three", sets[1], 3)):
        build().train(data=str(data), project=str(here / "alone"), **SETTINGS)
        opened = YOLO(here / "runs" / "multitrain" / name / "weights" / "best.pt").model
        assert (len(opened.names), opened.yaml["backbone_lr"]) == (count, 0.1)
    assert [count for count, _ in built] == [2, 3, 2, 3]
    assert built[:2] == built[2:]
    assert len({rate for rate, _, _ in built[0][1]}) == 2


@pytest.mark.slow
def test_tune_trains_by_our_options(digits, here, built):
    space = {"lr0": (1e-4, 1e-2), "hsv_h": (0.0, 0.1)}
    build().tune(data=str(digits), iterations=2, space=space, name="tuned", val=True, **SETTINGS)
    assert len(built) == 2
    assert all(len({rate for rate, _, _ in rates}) == 2 for _, rates in built)
    best = (here / "runs" / "detect" / "tuned" / "best_hyperparameters.yaml").read_text()
    assert "lr0: " in best and "hsv_h: " in best


def test_what_tune_cannot_do_is_one_line(here, monkeypatch):
    with pytest.raises(ValueError, match=r"^tune\(use_ray=True\) is not for these models"):
        build().tune(use_ray=True, data="data.yaml")
    with pytest.raises(ValueError, match=r"^tune needs data="):
        build().tune()
    monkeypatch.setattr(checks.Tuner, "__init__", lambda self, args, _callbacks=None: None)
    with pytest.raises(ValueError, match=r"^tune needs a newer Ultralytics than \d"):
        build().tune(data="data.yaml")


def test_several_sets_that_cannot_be_trained_on_are_one_line(digits, here, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"^no data set at absent\.yaml"):
        build().train(data=[str(digits), "absent.yaml"])
    with pytest.raises(ValueError, match=r"^data=\[\] names no data set"):
        build().train(data=[])
    monkeypatch.delattr(engine_trainer, "MultiTrainer")
    with pytest.raises(ValueError, match=r"^data=\[\.\.\.\] needs a newer Ultralytics than \d"):
        build().train(data=[str(digits)])
    assert not (here / "runs").exists()


def test_a_trainer_that_would_train_another_model_is_refused(digits):
    with pytest.raises(ValueError, match=r"^trainer=DetectionTrainer would train another model .* derive it"):
        YOLO("yolov8n-dualvit.yaml", backbone="resnet10t").train(StockTrainer, data=str(digits))
    with pytest.raises(ValueError, match=r"^trainer=<lambda> would"):
        build().train(lambda **_: None, data=str(digits))


def test_quantize_names_what_it_needs(digits, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"^quantize=8 trains by nvidia-modelopt, which is not installed"):
        build().train(data=str(digits), quantize=8)


def test_embeddings_are_of_rows_with_one_map():
    model = build()
    assert model.embed(PICTURE)[0].shape == (256,)
    assert model.embed(PICTURE, embed=[1, 2, 3])[0].shape == (128 + 256 + 512,)
    for row, said in ((0, "row 0 gives three maps at once; give 1, 2 or 3"), (16, "16 is no row before the head")):
        with pytest.raises(ValueError, match=said):
            model.embed(PICTURE, embed=[row])


def test_maps_are_drawn(here):
    YOLO("yolo26n-timm.yaml", backbone="resnet10t").predict(PICTURE, imgsz=64, visualize=True, verbose=False)
    assert [file.name for file in here.rglob("*.jpg")] == ["image0_cam.jpg"]


@pytest.mark.parametrize("name", ["yolov8n-dualvit.yaml", "yolo26n.yaml"])
def test_a_fused_model_is_not_written(name, tmp_path):
    model = YOLO(name)
    model.fuse()
    with pytest.raises(CheckpointError, match=r"^cannot write .*fused for inference; open its file again"):
        model.save_weights(tmp_path / "fused.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_benchmark_measures_our_file(digits, here):
    file = build().save_weights(here / "small.safetensors")
    table = YOLO(file).benchmark(data=str(digits), imgsz=64, format="onnx", device="cpu")
    assert table["Format"].to_list() == ["ONNX"]
    assert "✅" in table["Status❔"].to_list()[0]


def test_an_end_to_end_head_validates_and_tracks(digits, here):
    model = YOLO("yolo26n-timm.yaml", backbone="resnet10t")
    model.model.names = {index: str(index) for index in range(80)}
    found = model.predict(PICTURE, imgsz=64, conf=1e-9, nms=False, verbose=False)[0].boxes
    assert len(found) == 84  # one per place: without suppression none is lost
    tracked = model.track([PICTURE, PICTURE], imgsz=64, conf=1e-9, nms=False, verbose=False)
    assert len(tracked) == 2
