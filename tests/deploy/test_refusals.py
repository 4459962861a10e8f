"""What exports, files and predictors refuse: each in one line, with the value and what to do."""

import dataclasses
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dualvit.deploy import export as exports
from dualvit.deploy import formats, opening, predictor, quantise, seeing, sources, stock
from dualvit.deploy.metadata import KEY, LARGEST_JSON, Metadata, from_json
from dualvit.deploy.parity import Parity, Row
from dualvit.deploy.sources import Source
from dualvit.errors import InputError, MissingExtraError, MissingFileError, StateError

ABOUT = Metadata("tiny", "classify", ("a", "b"), (64, 64), outputs=("logits",))
BOXES = dataclasses.replace(ABOUT, task="detect", head="torchvision", outputs=("boxes", "labels", "scores"))


class Wide(nn.Module):
    """Takes nothing narrower than 64 pixels."""

    def forward(self, images):
        if images.shape[2] < 64:
            raise RuntimeError("the kernel is larger than the picture")
        return images.mean((2, 3))


def write(source, form, folder):
    return exports._write(source, form, folder)


def wide(folder, patch):
    exports.export(Source(Wide(), ABOUT), "torchscript", folder / "n.torchscript")


def under_a_file(folder, patch):
    (folder / "file").write_text("")
    exports.require("torchscript", folder / "file" / "n.torchscript")


def a_folder(folder, patch):
    (folder / "n.onnx").mkdir()
    patch.setattr(exports, "NEEDS", {})
    exports.require("onnx", folder / "n.onnx")


def without_onnx(folder, patch):
    patch.setattr(exports, "NEEDS", {"onnx": ("absent_package",)})
    exports.require("onnx", folder / "n.onnx")


def broken_exporter(folder, patch):
    def fail(source, folder):
        raise ArithmeticError("no such\noperator")

    patch.setattr(formats, "WRITE", {"onnx": fail})
    write(Source(Wide(), ABOUT), "onnx", folder)


def broken_runtime(folder, patch):
    def open_broken(file, threads):
        raise ArithmeticError("no such\nkernel")

    patch.setattr(exports, "openers", lambda form: [open_broken])
    exports.export(Source(Wide().eval(), ABOUT, least=64), "torchscript", folder / "n.torchscript")


def lost_boxes(folder, patch):
    rows = (Row((1, 3, 64, 64), "boxes", 0.0, 0.0, 0.0),)
    exports._require_alike(Source(Wide(), BOXES), "onnx", Parity("onnxruntime 1", "float32", rows, (9, 8)), 1e-4)


def of_a_recipe(name, monkeypatch, image_size=None, door=sources):
    task = SimpleNamespace(recipe=SimpleNamespace(task=name))
    monkeypatch.setattr(pytest.importorskip("dualvit.recipes.run", reason="needs dualvit[recipes]"), "load",
                        lambda file: task)  # fmt: skip
    door.open_recipe(SimpleNamespace(stem="best", __str__=str), image_size)


def of_a_file(content="", name="best.ckpt"):
    def opened(folder, patch):
        (folder / name).write_bytes(content.encode())
        sources.open_source(str(folder / name), "start")

    return opened


def predicted(name, **options):
    def opened(folder, patch):
        if name.endswith("_model"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(b"")
        predictor.open_predictor(folder / name, **options)

    return opened


def onnx_file(shape, said=None, kind=1):
    """An ONNX file that answers with its input, of a shape in which a name is free, and with metadata."""

    def opened(folder, patch):
        helper = pytest.importorskip("onnx", reason="needs dualvit[export]").helper
        ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("in", "out")]
        graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "graph", ends[:1], ends[1:])
        model = helper.make_model(graph)
        helper.set_model_props(model, said or {})
        (folder / "n.onnx").write_bytes(model.SerializeToString())
        stock.about_file(folder / "n.onnx", stock.form_of(folder / "n.onnx"))

    return opened


def without_opencv(folder, patch):
    patch.setattr(seeing.importlib.util, "find_spec", lambda name: None)
    seeing.seeing(dataclasses.replace(ABOUT, resize="letterbox"))


def without_runtime(folder, patch):
    patch.setattr(predictor, "missing", lambda name: "absent_package")
    patch.setattr(predictor, "form_of", lambda file: None)
    patch.setattr(predictor, "about_file", lambda file, form: ABOUT)
    (folder / "n.onnx").write_bytes(b"")
    predictor.open_predictor(folder / "n.onnx")


YOLO_SAID = {"names": "{0: 'a'}", "imgsz": "[64, 64]"}
PICTURES = ["batch", 3, "height", "width"]
CASES = {
    "export, sides": (wide, InputError, r"tiny does not take 1x3x32x64, .*larger than the picture; give --static$"),
    "export, under a file": (under_a_file, OSError, r"cannot write .*n\.torchscript"),
    "export, onto a folder": (a_folder, InputError, r"n\.onnx: it is a folder; give another name$"),
    "export, library": (without_onnx, MissingExtraError, r"^onnx needs absent_package; install dualvit\[export\]$"),
    "export, operator": (broken_exporter, InputError, r"^tiny cannot be exported to onnx: .*no such operator"),
    "export, runtime": (broken_runtime, StateError, r"file of tiny does not run in broken: .*; nothing was written$"),
    "export, boxes": (lost_boxes, StateError, r"differs from the network in onnxruntime 1: 8 of 9 boxes agree"),
    "export, torch-export of boxes": (
        lambda folder, _: write(Source(Wide(), BOXES), "torch-export", folder), InputError,
        r"^tiny is a detector, which torch-export does not take; give --format onnx$"),
    "export, torchscript of boxes": (
        lambda folder, _: write(Source(Wide(), BOXES), "torchscript", folder), InputError,
        r"^tiny is a detector of torchvision, which a trace does not follow; give --format onnx$"),
    "source, suffix": (of_a_file(name="best.bin"), InputError, r"best\.bin is no checkpoint of a recipe \(\.ckpt\) or"),
    "source, two weights": (of_a_file(), InputError, r"best\.ckpt has weights and outputs of its own; leave"),
    "source, pretraining": (
        lambda _, patch: of_a_recipe("pretrain", patch), InputError,
        r"is a checkpoint of pretrain; give one of classify, semantic, detect$"),
    "prediction, pretraining": (
        lambda _, patch: of_a_recipe("pretrain", patch, door=opening), InputError,
        r"is a model for pretrain, which predicts nothing of a picture$"),
    "prediction, size": (
        lambda _, patch: of_a_recipe("detect", patch, 64, opening), InputError,
        r"keeps its own size of pictures; leave --image-size out$"),
    "prediction, file in PyTorch": (
        predicted("n.onnx", runtime="eager"), InputError, r"n\.onnx is an exported file, which PyTorch does not run"),
    "prediction, size of a file": (
        predicted("n.onnx", image_size=64), InputError, r"n\.onnx is an exported file, whose size and weights"),
    "prediction, two weights": (
        predicted("n.ckpt", weights="a"), InputError, r"n\.ckpt has its weights; leave --weights out$"),
    "prediction, empty folder": (
        predicted("n_openvino_model"), MissingFileError, r"no OpenVINO network \(\.xml\) in .*n_openvino_model; give"),
    "prediction, runtime of a file": (
        predicted("n.xml", runtime="onnxruntime"), InputError, r"does not open .*; give --runtime openvino$"),
    "prediction, no runtime": (
        without_runtime, MissingExtraError, r"^onnxruntime needs absent_package; install dualvit\[export\]$"),
    "file, no batch of pictures": (onnx_file([3, 4]), InputError, r"does not take a batch of pictures \(B, 3, H, W\)"),
    "file, kind of numbers": (onnx_file(PICTURES, kind=7), InputError, r"does not take a batch of pictures"),
    "file, fixed batch": (onnx_file([2, 3, 8, 8]), InputError, r"takes 2 pictures at once; export it for one, or any$"),
    "file, says nothing": (onnx_file(PICTURES), InputError, r"does not say what its outputs mean; write it with"),
    "file, backbone": (
        onnx_file(PICTURES, {KEY: dataclasses.replace(ABOUT, task="features", head="maps").to_json()}), InputError,
        r"holds a backbone, which answers with maps; export a model with a head$"),
    "file, poses": (
        onnx_file(PICTURES, YOLO_SAID | {"task": "pose"}), InputError,
        r"is a model for pose; dualvit yolo pose predict takes it$"),
    "file, damaged": (
        onnx_file(PICTURES, YOLO_SAID | {"task": "detect", "imgsz": "[64]"}), InputError,
        r"has metadata of Ultralytics that are damaged; export it anew$"),
    "file, too much to say": (
        lambda *_: from_json(" " * (LARGEST_JSON + 1), "n.onnx"), InputError, r"^n\.onnx has \d+ bytes of metadata"),
    "picture, no square": (
        lambda *_: seeing.seeing(dataclasses.replace(ABOUT, image_size=(64, 32))), InputError,
        r"^tiny takes \(64, 32\) pixels, and a centre is a square; export it anew$"),
    "picture, OpenCV": (without_opencv, MissingExtraError, r"^tiny needs OpenCV to resize pictures; install dualvit\["),
    "int8, few pictures": (
        lambda *_: quantise.to_int8(None, [torch.zeros(1)] * 7), InputError,
        r"^7 pictures to calibrate on; give at least 8$"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_refusal_is_one_line(case, tmp_path, monkeypatch):
    refused, kind, said = CASES[case]
    with pytest.raises(kind, match=said) as error:
        refused(tmp_path, monkeypatch)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("n.torchscript")) and not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not find_spec("ultralytics"), reason="needs dualvit[yolo]")
def test_a_yolo_for_poses_predicts_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr("dualvit.yolo.model.YOLO", lambda file: SimpleNamespace(task="pose"))
    with pytest.raises(InputError, match=r"best\.pt is a model for pose; dualvit yolo pose predict takes it$"):
        opening.open_yolo(tmp_path / "best.pt")
