"""Build each shipped YAML at each scale and run one small forward pass."""

import torch
import ultralytics.utils.torch_utils as torch_utils

import dualvit.models.backbone as backbone
from dualvit.yolo import YOLO
from dualvit.yolo.register import yaml_names

# What costs minutes at scale x and is tested elsewhere: counting FLOPs, and drawing 73 million weights.
torch_utils.get_flops = lambda *_: 0.0
backbone.trunc_normal_ = lambda tensor, std: tensor.data.fill_(std)

count = 0
for name in yaml_names():
    for scale in "nsmlx":
        model = YOLO(name.replace("yolov8n", f"yolov8{scale}")).model.train()
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 32, 64)) is not None
        count += 1
print(f"{count} built")
