"""YOLO's own fuse folds our parts too, whatever mode the model is in, and a fused model is not trained."""

import pytest
import torch
from timm.layers import LayerScale
from torch import nn

from dualvit.fast import is_fused
from dualvit.yolo import YOLO
from dualvit.yolo.trainers import DetectionTrainer


@pytest.mark.parametrize("name", ["yolov8n-dualvit.yaml", "yolov8n-c2fdual.yaml"])
def test_fuse_folds_everything(name):
    model = YOLO(name).model
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LayerScale):
                module.gamma.uniform_(0.5, 1.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
        image = torch.randn(1, 3, 64, 96)
        before = model.eval()(image)[0]
        after = model.train().fuse(verbose=False).eval()(image)[0]
    assert is_fused(model)
    assert not [m for m in model.modules() if isinstance(m, LayerScale | nn.BatchNorm2d)]
    assert float((after - before).abs().max()) <= 2e-5 * float(before.abs().max())


def test_a_fused_model_is_not_trained(digits, tmp_path):
    model = YOLO("yolov8n-dualvit.yaml").model.fuse(verbose=False)
    overrides = {"model": "yolov8n-dualvit.yaml", "data": str(digits), "project": str(tmp_path), "device": "cpu"}
    trainer = DetectionTrainer(overrides=overrides)
    with pytest.raises(ValueError, match="fused for inference"):
        trainer.get_model(cfg=model.yaml, weights=model)
