"""Names that a user mistyped end in one line, and never on the network."""

import pytest
import ultralytics.nn.tasks as tasks

from dualvit.yolo import YOLO


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
