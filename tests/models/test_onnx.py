"""ONNX with dynamic batch, height and width, exported from one image and from two, of each mixer, plain and fused."""

import copy

import pytest
import torch
from torch import nn

import dualvit
from dualvit.models.registry import MIXERS

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

MAPS = ("stride4", "stride32")
AXES = {
    "image": {0: "batch", 2: "height", 3: "width"},
    "logits": {0: "batch"},
    **{name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_columns"} for name in MAPS},
}
SMALL = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 1, 1, 1), "layer_scale": 0.5}
LINEAR = {"semantic_grid": (8, 8), "key_grid": (14, 14)}
NETS = {
    "nano": ("dualvit_n", {}),
    "paper": ("dualvit_s", {}),
    "linear": ("dualvit_s", LINEAR),
    **{mixer: ("pyramid_s", {"mixer": mixer}) for mixer in MIXERS if mixer != "dual"},
}
CASES = [
    *(("nano", 1, False), ("paper", 1, False), ("nano", 2, True), ("paper", 2, True), ("linear", 2, True)),
    *((name, 2, False) for name in NETS),
]


class Outputs(nn.Module):
    """Logits, and the maps at strides 4 and 32."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        features, maps = self.model.forward_intermediates(image, indices=[0, 3])
        return self.model.forward_head(features), *maps


@pytest.mark.parametrize(("name", "batch", "fused"), CASES)
@torch.no_grad()
def test_any_batch_and_size(name, batch, fused, tmp_path):
    net, options = NETS[name]
    model = dualvit.create_model(net, num_classes=5, **options, **SMALL).eval()
    exported = dualvit.fuse(copy.deepcopy(model)) if fused else model
    file = tmp_path / "model.onnx"
    torch.onnx.export(
        Outputs(exported).eval(), (torch.randn(batch, 3, 96, 128),), file, dynamo=False, dynamic_axes=AXES,
        input_names=["image"], output_names=["logits", *MAPS], opset_version=17,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in ((3, 3, 64, 224), (1, 3, 224, 224), (2, 3, 160, 96), (3, 3, 67, 71), (1, 3, 112, 448), (1, 3, 32, 101)):
        image = torch.randn(size)
        answers = session.run(None, {"image": image.numpy()})
        for answer, expected in zip(answers, Outputs(model)(image), strict=True):
            torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-4, atol=1e-5)
