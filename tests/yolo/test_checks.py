"""Names that a user mistyped end in one line, and never on the network."""

import pytest
import ultralytics.nn.tasks as tasks
from ultralytics.cfg import get_cfg

from dualvit.yolo import YOLO, cli


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
