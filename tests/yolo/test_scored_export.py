"""The file of a finished cell: the averaged weights that were scored, by Ultralytics' exporter, answers as eager."""

import pytest
import torch

from dualvit import archives
from dualvit.deploy.runtimes import NEEDS, disagreement, flat, missing, open_runtime
from dualvit.files import atomic
from dualvit.yolo import engine as cell


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a cell whose averaged weights differ from those of its last step; and the averaged network."""
    folder = tmp_path_factory.mktemp("cell")
    torch.manual_seed(0)
    last, averaged = (cell.network("yolov8n-seg.yaml", {}, "segment", 2) for _ in range(2))
    for parameter in averaged.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * parameter.std().nan_to_num()
    state = {
        "epoch": 0, "epochs": 1, "updates": 1, "best_fitness": 0.0, "history": [{"epoch": 1.0, "seconds": 1.0}],
        "optimizer": {}, "stopper": {}, "model": last.state_dict(), "ema": averaged.state_dict(),
    }  # fmt: skip
    with atomic(folder / cell.STATE) as file:
        archives.save(state, file)
    return folder, averaged.eval()


def engine(name="yolov8n-seg.yaml", task="segment"):
    return cell.YoloEngine(name, {}, task, {})


def test_the_averaged_weights_are_exported(finished, tmp_path):
    runtimes = [name for name in NEEDS if missing(name) is None]
    if not runtimes:
        pytest.skip("needs dualvit[export]")
    folder, averaged = finished
    network = engine().scored(folder, 2).eval()
    image, file = torch.rand(1, 3, 64, 64), tmp_path / "network.onnx"
    expected = engine().export(network, image, file)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    assert not network.is_fused() and not network.model[-1].export  # it is left as it was
    with torch.inference_mode():
        boxes = flat(averaged(image))[0]
    torch.testing.assert_close(expected[0], boxes, rtol=1e-5, atol=1e-5)
    assert [tuple(value.shape) for value in expected] == [(1, 4 + 2 + 32, 84), (1, 32, 16, 16)]
    for name in runtimes:
        answers = open_runtime(name, file, 1)(image.numpy())
        assert disagreement(answers, [value.numpy() for value in expected]) < 1e-4
        assert disagreement(answers, [0 * value.numpy() for value in expected]) > 1


def test_weights_that_are_gone_or_of_another_model_are_one_line(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no weights at .*state.ckpt$"):
        engine().scored(tmp_path, 2)
    with pytest.raises(ValueError, match=r"state.ckpt is of another model than yolov8n.yaml$"):
        engine("yolov8n.yaml", "detect").scored(finished[0], 2)
    with pytest.raises(ValueError, match=r"state.ckpt is of another model than yolov8n-seg.yaml$"):
        engine().scored(finished[0], 3)
