"""ONNX with dynamic batch, height and width, exported from one image and from two, plain and fused."""

import copy

import pytest
import timm
import torch

import dualvit

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

AXES = {"image": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch"}}
SMALL = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 1, 1, 1), "layer_scale": 0.5}
LINEAR = {"semantic_grid": (8, 8), "key_grid": (14, 14)}


@pytest.mark.parametrize(("batch", "fused"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize(("name", "options"), [("dualvit_n", {}), ("dualvit_s", {}), ("dualvit_s", LINEAR)])
def test_any_batch_and_size(name, options, batch, fused, tmp_path):
    model = timm.create_model(name, num_classes=5, **options, **SMALL).eval()
    exported = dualvit.fuse(copy.deepcopy(model)) if fused else model
    file = tmp_path / "model.onnx"
    torch.onnx.export(
        exported, (torch.randn(batch, 3, 96, 128),), file, dynamo=False, dynamic_axes=AXES,
        input_names=["image"], output_names=["logits"], opset_version=17,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in ((3, 3, 64, 224), (1, 3, 224, 224), (2, 3, 160, 96)):
        image = torch.randn(size)
        with torch.no_grad():
            expected = model(image)
        answer = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
