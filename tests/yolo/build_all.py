"""Build each shipped YAML at each scale and run one small forward pass."""

import torch

from dualvit.yolo import YOLO
from dualvit.yolo.register import yaml_names

count = 0
for name in yaml_names():
    for scale in "nsmlx":
        model = YOLO(name.replace("yolov8n", f"yolov8{scale}")).model.train()
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 32, 64)) is not None
        count += 1
print(f"{count} built")
