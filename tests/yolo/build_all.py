"""Build each model YAML, those of YOLOv8 at each scale, and run one small forward pass.

What all tasks of a scale share, the backbone, is built once and computes its maps once for an image's shape.
"""

import functools

import torch
import ultralytics.utils.torch_utils as torch_utils
from torch import nn

from dualvit.backbones import timm_model as timm_backbone
from dualvit.models import contract as backbone
from dualvit.yolo import YOLO
from dualvit.yolo.patches import yaml_names

torch.set_num_threads(1)  # as in conftest.py


def fill(tensor, *_, **__):
    """Takes the place of each random initialisation: drawing 73 million weights takes a second."""
    return tensor.detach().fill_(0.01)


for name in ("kaiming_uniform_", "normal_", "trunc_normal_", "uniform_"):
    setattr(nn.init, name, fill)
backbone.trunc_normal_ = fill
torch_utils.get_flops = lambda *_: 0.0  # minutes at scale x, and tested in test_register.py
timm_backbone.SIZES = ((96, 160),)  # of the trial on the meta device: real images follow here
build = timm_backbone.BackbonePlan.build


@functools.lru_cache(maxsize=2)
def built_once(plan, in_chans):
    network = build(plan, in_chans)
    forward = network.forward

    @functools.cache
    def maps(shape, training):
        with torch.no_grad():
            return forward(torch.zeros(shape))

    network.forward = lambda image: maps(tuple(image.shape), network.training)  # every image here is zeros
    return network


timm_backbone.BackbonePlan.build = lambda plan, in_chans=3: built_once(plan, in_chans)

count = 0
for scale in "nsmlx":
    for name in (name for name in yaml_names() if scale == "n" or name.startswith("yolov8n")):
        options = {"backbone": "mobilenetv4_conv_small"} if "-timm" in name else {}
        model = YOLO(name.replace("yolov8n", f"yolov8{scale}"), **options).model.train()
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 32, 64)) is not None
        count += 1
print(f"{count} built")
