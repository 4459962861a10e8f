"""A training of a comparison through Ultralytics: it reports, resumes, and reads its data beforehand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dualvit.yolo import engine as cell

ARGUMENTS = {
    "imgsz": 64, "batch": 5, "seed": 0, "device": "cpu", "workers": 0, "optimizer": "AdamW", "lr0": 1e-3,
    "mosaic": 0.0, "scale": 0.3,
    "fliplr": 0.0,
}  # fmt: skip


class Stop(Exception):
    pass


def ignore(share, seconds, rows):
    pass


def after_one_epoch(share, seconds, rows):
    if rows is not None and len(rows) == 1:
        raise Stop


def go(folder, data, epochs, listener=ignore, seconds=None):
    budget = {"time": seconds / 3600} if seconds else {"epochs": epochs}
    return cell.YoloEngine("yolov8n.yaml", {}, "detect", ARGUMENTS | budget | {"data": str(data)}).train(
        folder, listener
    )


def test_data_is_counted(digits, tmp_path):
    assert cell.read_data(digits) == (10, 10, 2)
    with pytest.raises(FileNotFoundError, match="no data set at"):
        cell.read_data(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("train: nowhere\nval: nowhere\nnames: [a]\n")
    with pytest.raises(FileNotFoundError, match="correct `path`"):
        cell.read_data(tmp_path / "bad.yaml")
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    (tmp_path / "empty.yaml").write_text("train: train\nval: val\nnames: [a]\n")
    with pytest.raises(FileNotFoundError, match="no images in"):
        cell.read_data(tmp_path / "empty.yaml")


def test_models_and_their_task():
    assert (
        cell.open_model("yolov8n-dualvit.yaml", {"drop_path_rate": 0.1}, "detect").model.yaml["drop_path_rate"] == 0.1
    )
    with pytest.raises(ValueError, match="is a model for segment, and the task is detect"):
        cell.open_model("yolov8n-seg.yaml", {}, "detect")
    network = cell.YoloEngine("yolov8n.yaml", {}, "detect", {}).network(3).eval()
    assert network(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 3, 8 * 8 + 4 * 4 + 2 * 2)


def test_a_file_of_weights_is_trained_on_from(digits, tmp_path):
    """At a rate of almost nothing, all that does not depend on the number of classes stays as it is in the file."""
    torch.manual_seed(7)
    start = cell.YOLO("yolov8n.yaml")
    start.save_weights(tmp_path / "start.safetensors", half=False)
    still = ARGUMENTS | {"epochs": 1, "data": str(digits), "lr0": 1e-12, "warmup_bias_lr": 0.0, "weight_decay": 0.0}
    trained = cell.YoloEngine(str(tmp_path / "start.safetensors"), {}, "detect", still)
    trained.train(tmp_path / "cell", ignore)
    found = cell.read_state(tmp_path / "cell" / cell.STATE)["ema"]
    own = start.model.state_dict()
    same = {name for name, value in found.items() if name in own and own[name].shape == value.shape and value.ndim > 1}
    assert len(same) > 60
    assert all(torch.allclose(found[name], own[name], atol=1e-6) for name in same)


def test_history_takes_the_later_of_two_rows(tmp_path):
    (tmp_path / "run").mkdir()
    head = "epoch,time,metrics/mAP50(B),metrics/mAP50-95(B)\n"
    (tmp_path / "run" / "results.csv").write_text(head + "1,2.5,0.4,0.2\n2,5,0.5,0.3\n2,7,0.6,0.35\n3,9,0.")
    assert cell.history(tmp_path, "detect") == [
        {"epoch": 1, "mAP50-95": 0.2, "mAP50": 0.4, "seconds": 2.5},
        {"epoch": 2, "mAP50-95": 0.35, "mAP50": 0.6, "seconds": 7.0},
    ]


@pytest.mark.slow
def test_it_resumes_and_its_clock_goes_on(digits, tmp_path):
    seen = []

    def cut(share, seconds, rows):
        seen.append(share)
        after_one_epoch(share, seconds, rows)

    with pytest.raises(Stop):
        go(tmp_path, digits, 3, cut)
    assert seen[0] == 0 and seen == sorted(seen) and 0 < seen[-1] < 1
    first = cell.history(tmp_path, "detect")
    assert [row["epoch"] for row in first] == [1]
    epochs = go(tmp_path, digits, 3)
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert epochs[0] == first[0]
    assert epochs[1]["seconds"] > first[0]["seconds"]
    # The trainer is done: a cell that was killed after this has nothing left to train.
    assert go(tmp_path, digits, 3, cut) == epochs


def test_a_checkpoint_that_breaks_off_leaves_the_old_one(digits, tmp_path, monkeypatch):
    """In the second epoch's save; the cell goes on from the first one's state."""
    weights, real, saved = tmp_path / "run" / "weights", Path.write_bytes, []

    def write_bytes(self, data):
        saved.append(self.name)
        if saved.count(self.name) == 2:
            real(self, data[:1000])
            raise Stop
        return real(self, data)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Path, "write_bytes", write_bytes)
        go(tmp_path, digits, 2)
    assert torch.load(weights / "last.pt", weights_only=False)["epoch"] == 0
    assert sorted(file.name for file in weights.iterdir()) == ["best.pt", "last.pt"]
    rows = go(tmp_path, digits, 2)
    assert [row["epoch"] for row in rows] == [1, 2]
    again = cell.YoloEngine("yolov8n.yaml", {}, "detect", ARGUMENTS | {"data": str(digits)}).predict(tmp_path, "val")
    assert again[0]["mAP50-95"] == pytest.approx(rows[-1]["mAP50-95"], abs=1e-3)  # the weights that were scored


@pytest.mark.slow
def test_a_time_budget_holds_across_a_resumed_run(digits, tmp_path):
    with pytest.raises(Stop):
        go(tmp_path, digits, None, after_one_epoch, seconds=12)
    epochs = go(tmp_path, digits, None, seconds=12)
    assert len(epochs) >= 2
    assert 10 < epochs[-1]["seconds"] < 20


def test_a_damaged_state_starts_anew_and_another_one_is_an_error(tmp_path):
    file = tmp_path / cell.STATE
    file.write_bytes(b"PK\x03\x04 cut")
    assert cell.read_state(file) is None
    assert [path.name for path in tmp_path.iterdir()] == ["state.damaged"]
    torch.save({"epoch": 1}, file)
    with pytest.raises(ValueError, match=r"state.ckpt is no state of a cell; delete it"):
        cell.read_state(file)


@pytest.mark.slow
def test_no_checkpoint_of_an_earlier_process_is_opened(digits, tmp_path, canary):
    """A folder of results may come from elsewhere: pickles in it, as checkpoints and as caches of labels, stay shut."""

    class Evil:
        def __reduce__(self):
            return open, (str(canary), "w")

    data = tmp_path / "data"
    shutil.copytree(digits.parent, data)
    with pytest.raises(Stop):
        go(tmp_path, data / "data.yaml", 2, after_one_epoch)
    for file in (*(tmp_path / "run" / "weights").iterdir(), tmp_path / "run" / "weights" / "best.pt"):
        torch.save({"epoch": 0, "model": Evil(), "ema": Evil()}, file)
    caches = list(data.rglob("*.cache"))
    assert caches
    for file in caches:
        with file.open("wb") as out:
            np.save(out, np.array(Evil(), dtype=object), allow_pickle=True)
    assert [row["epoch"] for row in go(tmp_path, data / "data.yaml", 2)] == [1, 2]
