"""`dualvit yolo`: where its results are, that none is kept in memory, and what must be given."""

import re
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import ultralytics.engine.results
from ultralytics.utils import LOGGER, SETTINGS

from dualvit.yolo import YOLO
from dualvit.yolo.patches import yaml_names
from dualvit_cli import yolo as cli

FRAMES = 12
QUICK = ["imgsz=64", "device=cpu"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small model in one file."""
    model = YOLO("yolov8n-timm.yaml", backbone="resnet10t")
    return model.save_weights(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Frames of noise, and a folder with a picture."""
    folder = tmp_path_factory.mktemp("video") / "pictures"
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, 64, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "one.jpg"), frames[0])
    writer = cv2.VideoWriter(str(folder.parent / "noise.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return folder.parent / "noise.avi"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def log(caplog):
    """What Ultralytics says."""
    LOGGER.addHandler(caplog.handler)
    caplog.set_level("INFO", LOGGER.name)
    yield caplog
    LOGGER.removeHandler(caplog.handler)


@pytest.fixture
def alive(monkeypatch):
    """How many results were alive at a time."""
    results, counts = weakref.WeakSet(), []
    stock = ultralytics.engine.results.Results.__init__

    def counted(self, *args, **kwargs):
        stock(self, *args, **kwargs)
        results.add(self)
        counts.append(len(results))

    monkeypatch.setattr(ultralytics.engine.results.Results, "__init__", counted)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_predict_from_the_shell_leaves_pictures_in_runs(version, fresh, tiny, video, tmp_path):
    code = (
        "import os, runpy, sys; os.chdir(sys.argv.pop(1)); sys.argv[0] = 'dualvit'\n"
        "runpy.run_module('dualvit', run_name='__main__', alter_sys=True)"
    )
    words = ["yolo", "detect", "predict", f"model={tiny}", f"source={video.parent / 'pictures'}", *QUICK]
    done = fresh("-c", code, str(tmp_path), *words, version=version)
    assert [file.name for file in (tmp_path / "runs/detect/predict").iterdir()] == ["one.jpg"]
    said = done.stdout + done.stderr
    assert "one.jpg: 64x64" in said
    assert "Results saved to" in said and "runs/detect/predict" in said


def test_a_video_is_shown_frame_by_frame_and_none_is_kept(here, tiny, video, alive, log):
    cli.run(["track", f"model={tiny}", f"source={video}", *QUICK, "project=mine"])
    assert len(alive) >= FRAMES
    assert max(alive) < 5
    assert sum("noise.avi: 64x64" in message for message in log.messages) == FRAMES
    assert (here / "mine/track/noise.avi").stat().st_size > 1000
    cli.run(["detect", "predict", f"model={tiny}", f"source={video}", *QUICK, "name=again"])
    assert (here / "runs/detect/again/noise.avi").exists()
    model = YOLO(tiny)
    assert len(model.predict(video, imgsz=64, device="cpu", verbose=False)) == FRAMES  # of a Python user all are kept
    assert model.predictor.args.save is False


@pytest.mark.parametrize(
    ("settings", "place"),
    [({}, "runs/detect/val"), ({"project": "mine"}, "mine/val"), ({"project": "{tmp}/there", "name": "x"}, "there/x")],
)
def test_runs_go_to_the_working_directory(here, tiny, digits, settings, place):
    settings = {name: value.format(tmp=here) for name, value in settings.items()}
    YOLO(tiny).val(data=digits, imgsz=64, device="cpu", workers=0, plots=False, verbose=False, **settings)
    assert (here / place).is_dir()


def test_a_runs_dir_that_a_user_chose_is_kept(here):
    from ultralytics.cfg import get_cfg, get_save_dir

    from dualvit.yolo.patches import runs_here

    def place(**settings):
        with runs_here():
            return Path(get_save_dir(get_cfg(overrides={"mode": "train", "task": "detect", **settings})))

    checkout = here / "checkout"
    (checkout / ".git").mkdir(parents=True)
    for runs_dir, found in (
        (SETTINGS.defaults["runs_dir"], here / "runs"),
        (str(checkout / "runs"), here / "runs"),  # which another installation wrote
        (str(here / "results"), here / "results"),
    ):
        dict.__setitem__(SETTINGS, "runs_dir", runs_dir)  # the file of the settings stays
        assert place() == found / "detect/train"
        assert place(project="mine") == here / "mine/train"
    dict.__setitem__(SETTINGS, "runs_dir", SETTINGS.defaults["runs_dir"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detect", "train"], "train needs model= and data=, such as model=yolov8n-dualvit.yaml data=data.yaml"),
        (["segment", "train", "data=x.yaml"], "train needs model=, such as model=yolov8n-dualvit-seg.yaml"),
        (["train", "model=yolov8n-dualvit.yaml", "epochs", "=", "1"], "train needs data=, such as data=data.yaml"),
        (["classify", "train", "model=yolov8n-dualvit-cls.yaml"], "train needs data=, such as data=FOLDER"),
        (["detect", "val", "model={tiny}"], "val needs data="),
        (["detect", "predict", "model={tiny}"], "predict needs source=, such as source=FOLDER"),
        (["mode=track"], "track needs model= and source=, such as model=best.pt source=video.mp4"),
        (["export"], "export needs model="),
        (["benchmark", "model={tiny}"], "benchmark needs data="),
        (["detect", "model={tiny}", "source=x"], "what is to be done is not given; name one of train, val, predict"),
        (["cfg={cfg}"], "train needs data="),
    ],
)
def test_what_must_be_given(here, tiny, words, said, log, network_attempts):
    (here / "cfg.yaml").write_text("mode: train\nmodel: yolov8n-dualvit.yaml\n")
    before = list(network_attempts)
    with pytest.raises(ValueError) as error:
        cli.run([word.format(tiny=tiny, cfg=here / "cfg.yaml") for word in words])
    line = str(error.value)
    assert said in line and "\n" not in line
    if " model=" in line and "train" in words:
        assert "yolov8n-timm" in line
    assert not re.search(r"yolo26\w(-\w+)?\.pt|coco8|yolov8n\.pt", line + log.text)
    assert network_attempts == before
    assert not (here / "runs").exists()


@pytest.mark.parametrize("suffix", ["", "-cls", "-seg", "-pose", "-obb"])
def test_python_names_what_is_missing_too(here, suffix, network_attempts):
    model = YOLO(f"yolov8n-dualvit{suffix}.yaml")
    before = list(network_attempts)
    for mode, name in (("train", "data"), ("val", "data"), ("predict", "source"), ("track", "source")):
        with pytest.raises(ValueError, match=f"^{mode} needs {name}="):
            getattr(model, mode)()
    with pytest.raises(ValueError, match=r"^train needs data="):
        model.train(resume=True, epochs=1)
    assert network_attempts == before


@pytest.mark.parametrize("name", [name for name in yaml_names() if "-timm" in name])
def test_a_timm_yaml_needs_a_backbone(name, here, digits):
    for start in (lambda: YOLO(name), lambda: cli.run(["train", f"model={name}", f"data={digits}", "layer_decay=0.5"])):
        with pytest.raises(ValueError, match=f"^{name} needs backbone=NAME, .* such as backbone=convnext_atto$"):
            start()


def test_a_users_yaml_on_ours_needs_a_backbone_too(here):
    (here / "mine.yaml").write_text("like: yolov8-timm.yaml\nnc: 3\n")
    with pytest.raises(ValueError, match=r"mine\.yaml needs backbone=NAME"):
        YOLO("mine.yaml")
    assert YOLO("mine.yaml", backbone="resnet10t").model.yaml["backbone"][0][3][0]["name"] == "resnet10t"


@pytest.mark.slow
def test_a_run_from_the_shell_says_where_it_is_and_val_knows_its_data(here, digits, log):
    settings = [*QUICK, "workers=0", "plots=False", "amp=False", "batch=4", "epochs=1", "project=mine"]
    cli.run(["train", "model=yolov8n-timm.yaml", "backbone=resnet10t", f"data={digits}", *settings])
    best = here / "mine/train/weights/best.pt"
    assert f"Results saved to {here / 'mine/train'}" in log.messages
    cli.run(["val", f"model={best}", "imgsz=64", "device=cpu", "workers=0", "exist_ok"])
    assert list((here / "runs/detect/val").glob("*.png"))
    with pytest.raises(ValueError, match=r"last\.pt has nothing to resume; give data="):
        cli.run(["train", "resume", f"model={best.with_name('last.pt')}"])
    model = YOLO(best)
    model.overrides["data"] = "coco.yaml"  # as in a checkpoint of Ultralytics
    with pytest.raises(ValueError, match="val needs data="):
        model.val()
    cli.run(["export", f"model={best}", "format=torchscript", *QUICK])
    assert best.with_suffix(".torchscript").is_file()
