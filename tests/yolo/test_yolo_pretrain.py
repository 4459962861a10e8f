"""A stock YOLO's backbone learns a teacher's maps, and teaches a network of ours."""

import pytest
import torch

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.errors import DualViTError
from dualvit.recipes.pretrain.config import settings
from dualvit.recipes.pretrain.run import pretrain
from dualvit.yolo import YOLO
from dualvit.yolo.pretrain import YoloMaps

SMALL = ("data.image_size=64", "data.batch=4", "data.samples=8", "schedule.warmup_steps=0", "trainer.accelerator=cpu")


def test_the_rows_of_each_stride():
    stock = YoloMaps("yolov8n.yaml", {}, (8, 16, 32))
    assert (stock.picked, stock.channels) == ((4, 6, 9), (64, 128, 256))
    ours = YoloMaps("yolov8n-dualvit.yaml", {}, (8, 16, 32))
    assert (ours.picked, ours.channels) == ((1, 2, 3), (64, 96, 160))
    maps = stock.build(None)(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    with pytest.raises(DualViTError, match="no map at stride 64; it has"):
        YoloMaps("yolov8n.yaml", {}, (64,))


def test_a_stock_student_ends_in_a_bundle_that_teaches(blotches, teacher_file, tmp_path):
    changes = (f"data.root={blotches}", *SMALL)
    stock = settings((*changes, "network.name=yolov8n.yaml"), "mobilenetv3_small_050", teacher_file, None, 1, "")
    lines = list(pretrain(stock, tmp_path / "stock"))
    file = tmp_path / "stock" / "yolov8n.safetensors"
    assert f'YOLO("{file}")' in lines[2]
    model = YOLO(file).model
    learnt = torch.load(tmp_path / "stock" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.state_dict()["model.0.conv.weight"], learnt["network.features.rows.0.conv.weight"])
    assert model.training is False

    YOLO("yolov8n.yaml").save(tmp_path / "teacher.pt")
    taught = settings((*changes, "network.name=dualvit_n"), str(tmp_path / "teacher.pt"), None, None, 1, "AGPL-3.0")
    assert "learnt the maps of" in next(pretrain(taught, tmp_path / "ours"))
