"""Names that a user mistyped, and data for another task, end in one line, and never on the network."""

import shutil

import pytest
import ultralytics.nn.tasks as tasks
from ultralytics.cfg import get_cfg

from dualvit.yolo import YOLO
from dualvit_cli import yolo as cli


class Fetched(Exception):
    """Stands for a download, which these tests cannot do."""


@pytest.fixture
def silent(network_attempts):
    """Hold that nothing tried to reach the network."""
    before = list(network_attempts)
    yield
    assert network_attempts == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.pt", "no checkpoint at missing.pt; give the .pt or .safetensors file of a run"),
        ("yolov8n-dulvit.pt", "did you mean yolov8n-dualvit.yaml"),
        ("yolov8n-dualvit", "did you mean yolov8n-dualvit.yaml"),
        ("yolov8mm.pt", "did you mean yolov8m.pt"),
        ("runs/weights/yolov8n.pt", "no checkpoint at runs/weights/yolov8n.pt"),
        ("missing.onnx", "no checkpoint at missing.onnx"),
        ("mine/yolov8n-dualvit.yaml", "no model YAML at mine/yolov8n-dualvit.yaml; the package has its own"),
    ],
)
def test_a_model_that_is_not_there(silent, name, words):
    with pytest.raises(FileNotFoundError) as error:
        YOLO(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_nearest_file_beside_a_mistyped_one(silent, tmp_path):
    (tmp_path / "best.pt").touch()
    with pytest.raises(FileNotFoundError, match=rf"did you mean {tmp_path}/best\.pt\?"):
        YOLO(tmp_path / "bset.pt")


@pytest.mark.parametrize("name", ["yolov8n.pt", "yolov8n", "yolov5n.pt", "https://example.com/mine.pt"])
def test_what_a_user_asks_for_by_its_official_name_is_fetched(monkeypatch, name):
    def fetch(*_args, **_options):
        raise Fetched

    monkeypatch.setattr("ultralytics.utils.downloads.safe_download", fetch)
    monkeypatch.setattr("ultralytics.utils.checks.check_file", fetch)
    monkeypatch.setattr(tasks, "attempt_download_asset", fetch, raising=False)
    with pytest.raises(Fetched):
        YOLO(name)


def test_weights_to_start_from_that_are_not_there(silent):
    model = YOLO("yolov8n-dualvit.yaml")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at runs/best\.pt"):
        model.train(data="coco8.yaml", pretrained="runs/best.pt")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at best\.pt"):
        model.load("best.pt")


@pytest.mark.parametrize("mode", ["train", "val"])
@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (
            "yolov8n-dualvit.yaml",
            "absent.yaml",
            "no data set at absent.yaml; give the path of a data.yaml, or make",
        ),
        ("yolov8n-dualvit-cls.yaml", "absent/digits", "no data set at absent/digits; give a folder with train and val"),
    ],
)
def test_data_that_are_not_there(silent, mode, model, data, words):
    yolo = YOLO(model)
    with pytest.raises(FileNotFoundError) as error:
        getattr(yolo, mode)(data=data, device="cpu")
    assert str(error.value).startswith(words)


def test_data_that_lack_a_folder_say_so(silent, tmp_path):
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: {0: a}\n")
    with pytest.raises(FileNotFoundError, match="correct `path`, `train` and `val` in it"):
        YOLO("yolov8n-dualvit.yaml").train(data=str(yaml), device="cpu", project=str(tmp_path))


def boxed(line):
    """A polygon's line of a label file as that of its box."""
    label, *numbers = line.split()
    x, y = ([float(number) for number in numbers[first::2]] for first in (0, 1))
    return f"{label} {(min(x) + max(x)) / 2} {(min(y) + max(y)) / 2} {max(x) - min(x)} {max(y) - min(y)}"


@pytest.fixture(scope="module")
def data_sets(digits, tmp_path_factory):
    """The digits with boxes, with one file of boxes among polygons, without labels, and with a shape of keypoints."""
    root = tmp_path_factory.mktemp("kinds")
    for name in ("boxes", "mixed", "bare"):
        shutil.copytree(digits.parent, root / name, ignore=shutil.ignore_patterns("*.cache"))
        files = sorted((root / name / "labels").rglob("*.txt"))
        full = [file for file in files if "train" in file.parts and file.read_text().strip()]
        for file in {"boxes": files, "mixed": full[-1:], "bare": []}[name]:
            file.write_text("".join(boxed(line) + "\n" for line in file.read_text().splitlines()))
        for file in files if name == "bare" else []:
            file.unlink()
    (root / "boxes/pose.yaml").write_text((root / "boxes/data.yaml").read_text() + "kpt_shape: [2, 3]\n")
    return root


@pytest.mark.parametrize(
    ("suffix", "data", "words"),
    [
        ("-seg", "boxes/data.yaml", "its labels are boxes, and task segment needs polygons .* the first is .*labels/"),
        ("-seg", "mixed/data.yaml", "its labels are boxes, and task segment needs polygons .* the first is .*train/"),
        ("-obb", "boxes/data.yaml", "its labels are boxes, and task obb needs four corners"),
        ("-pose", "boxes/data.yaml", "has no kpt_shape, so its labels hold no keypoints"),
        ("-pose", "boxes/pose.yaml", r"has 5 numbers, and with kpt_shape \[2, 3\] task pose needs 11"),
        (
            "",
            "bare/data.yaml",
            r"none of its \d+ images to train on has a label; the first is expected at .*labels/train/",
        ),
        ("", "boxes/classify", "is a folder without a data.yaml, which task detect needs"),
        ("-cls", "boxes/data.yaml", "is for detection and its like; task classify needs a folder with train and val"),
        ("-cls", "boxes", "is for detection and its like; task classify needs a folder with train and val"),
    ],
)
def test_labels_of_another_task(silent, data_sets, tmp_path, suffix, data, words):
    model = YOLO(f"yolov8n-dualvit{suffix}.yaml")
    settings = {"data": str(data_sets / data), "device": "cpu", "imgsz": 64, "plots": False, "project": str(tmp_path)}
    modes = ["train"] if data.startswith(("mixed", "bare")) else ["train", "val"]
    for mode in modes:
        with pytest.raises(ValueError, match=words) as error:
            getattr(model, mode)(**settings)
        assert "\n" not in str(error.value)
        assert str(data_sets / data) in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 3}, r"^unknown setting 'epoch'; did you mean epochs"),
        ({"layer_deacy": 0.8}, r"^unknown setting 'layer_deacy'; did you mean layer_decay"),
        ({"lr": 0.1, "qqqq": 1}, r"^unknown setting 'lr'; did you mean lrf, lr0.*; unknown setting 'qqqq'$"),
        ({"layer_decay": 0.8}, r"^layer_decay goes to YOLO\(\.\.\.\), not here$"),
    ],
)
def test_settings_that_do_not_exist(settings, words, capfd):
    with pytest.raises(SyntaxError, match=words) as error:
        YOLO("yolov8n-dualvit.yaml").train(data="coco8.yaml", **settings)
    assert "\n" not in str(error.value)
    assert not "".join(capfd.readouterr())


def test_deprecated_settings_are_still_taken():
    assert get_cfg(overrides={"hide_labels": True}).show_labels is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detect", "trian", "model=yolov8n-dualvit.yaml"], "unknown setting 'trian'; did you mean train"),
        (["detect", "train", "backbon=resnet18"], "unknown setting 'backbon'; did you mean backbone"),
        (["detect", "train", "epochs"], "is a valid YOLO argument but is missing an '=' sign"),
        (["mode=trian"], "Invalid 'mode=trian'"),
    ],
)
def test_the_command_line_says_a_mistake_alone(monkeypatch, arguments, words, capfd):
    monkeypatch.setattr("ultralytics.YOLO", YOLO)  # put back what `run` puts there
    monkeypatch.setattr("sys.argv", ["dualvit"])
    with pytest.raises((SyntaxError, ValueError)) as error:
        cli.run(arguments)
    assert words in str(error.value)
    assert len(str(error.value).strip().splitlines()) == 1
    assert "Docs" not in "".join(capfd.readouterr())
