"""Predictors: answers of checkpoints and files, a batch as good as each alone, and wrong requests in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.data.images import UnreadableError
from dualvit.deploy.export import export
from dualvit.deploy.folder import predict_folder
from dualvit.deploy.metadata import Metadata
from dualvit.deploy.predictor import Predictor, open_predictor
from dualvit.deploy.reading import mask_of, read, run_lengths
from dualvit.deploy.seeing import Seen, seeing
from dualvit.deploy.sources import open_source
from dualvit.errors import InputError, MissingFileError, StateError
from dualvit.models import create_model


def boxes(classes=2, task="detect"):
    return Metadata("test", task, tuple("ab"[:classes]), (64, 64), resize="letterbox", head="yolo", stride=32)


def seen(width=100, height=50):
    """A picture in the middle of a letterbox of 64x64 pixels."""
    return Seen(torch.zeros(3, 64, 64), (0, 16, 64, 48), (width, height))


def test_of_two_boxes_that_overlap_the_surer_one_stays_in_pixels_of_the_picture():
    rows = torch.tensor([[32, 32, 32, 16, 0.9, 0.1], [33, 32, 32, 16, 0.6, 0.2], [32, 32, 32, 16, 0.1, 0.8]])
    found = read(boxes(), [rows.T], seen(), 0.25)["objects"]
    assert [(one["name"], one["box"]) for one in found] == [("a", [25, 12.5, 75, 37.5]), ("b", [25, 12.5, 75, 37.5])]
    assert [one["score"] for one in found] == pytest.approx([0.9, 0.8], abs=1e-5)
    assert read(boxes(), [rows.T], seen(), 0.85)["objects"] == found[:1]


def test_masks_are_cut_off_at_their_box():
    rows = torch.tensor([[32.0, 32.0, 32.0, 16.0, 0.9, 1.0]])
    (found,) = read(boxes(1, "segment"), [rows.T, torch.ones(1, 16, 16)], seen(), 0.25)["objects"]
    mask = mask_of(found["mask"])
    assert mask.shape == (50, 100)
    assert mask.sum() == 50 * 25  # columns 25 to 74; rows from 12.5, which is 13, to 37
    assert not mask[:13].any()


def test_run_lengths_are_those_of_coco():
    coder = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((13, 7)) > 0.5
    runs = run_lengths(mask)
    assert np.array_equal(mask_of(runs), mask)
    assert np.array_equal(coder.decode(coder.frPyObjects(runs, 13, 7)), mask)


def test_outputs_that_are_not_finite_are_an_error():
    with pytest.raises(StateError, match="NaN or infinite"):
        read(boxes(), [torch.full((6, 3), torch.nan)], seen(), 0.25)


@pytest.mark.parametrize("size", [(100, 50), (31, 200), (640, 480), (3, 900)])
def test_a_letterbox_is_that_of_ultralytics(size):
    augment = pytest.importorskip("ultralytics.data.augment")
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
    ours = seeing(boxes())(picture).image
    theirs = augment.LetterBox((64, 64), auto=True, stride=32)(image=np.asarray(picture))
    assert np.array_equal((ours * 255).round().byte().permute(1, 2, 0).numpy(), theirs)


class Mean(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) * 20


def colours(resize="crop", size=(32, 32)):
    about = Metadata("colours", "classify", ("red", "green", "blue"), size, resize=resize)
    network = Mean()
    return Predictor(about, seeing(about), lambda images: [(row,) for row in network(images)], batch=3)


def test_each_picture_of_a_batch_gets_the_answer_that_it_gets_alone():
    rng = np.random.default_rng(2)
    shapes = [(40, 30), (64, 64), (40, 30), (20, 90), (40, 30), (40, 30)]
    pictures = [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in shapes]
    for predictor in (colours(), colours("shortest", (32, 64))):
        together = predictor.predict(pictures)
        for one, picture in zip(together, pictures, strict=True):
            (alone,) = predictor.predict([picture])
            assert [row["name"] for row in one["classes"]] == [row["name"] for row in alone["classes"]]
            scores = [[row["score"] for row in answer["classes"]] for answer in (one, alone)]
            assert scores[0] == pytest.approx(scores[1], abs=2e-5)


def test_wrong_requests_are_one_line(tmp_path):
    with pytest.raises(InputError, match="confidence is 2"):
        colours().predict([], 2)
    with pytest.raises(UnreadableError, match="cut it into pieces"):
        colours("shortest", (32, 64)).predict([Image.new("RGB", (6500, 100))])
    with pytest.raises(MissingFileError, match="no model at"):
        open_predictor(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="runtime is 'quick'"):
        open_predictor("dualvit_n", "quick")
    with pytest.raises(InputError, match="give --weights FILE"):
        open_predictor("dualvit_n")
    with pytest.raises(InputError, match="runs exported files"):
        open_predictor("dualvit_n", "openvino")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"damaged\.onnx"):
        open_predictor(damaged)


@pytest.mark.parametrize("name", ["dualvit_n", "mobilenetv3_small_050"])
def test_timm_weights_answer_as_their_exported_file(name, tmp_path):
    """The number of classes is that of the weights, and the picture is cut as timm's configuration says."""
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    torch.save(create_model(name, num_classes=3).state_dict(), tmp_path / "three.pth")
    eager = open_predictor(name, weights=tmp_path / "three.pth", image_size=64)
    file = export(open_source(name, str(tmp_path / "three.pth"), 64), "onnx", tmp_path / "three.onnx").files[0]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))
    mine, theirs = (one.predict([picture])[0]["classes"] for one in (eager, open_predictor(file, "onnxruntime")))
    assert eager.about.crop_pct == create_model(name).pretrained_cfg["crop_pct"]
    assert [one["label"] for one in mine] == [one["label"] for one in theirs]
    assert [one["score"] for one in mine] == pytest.approx([one["score"] for one in theirs], abs=2e-5)


def test_weights_that_tell_no_classes_apart_are_refused(tmp_path):
    torch.save(create_model("dualvit_n", num_classes=0).state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(InputError, match="tells no classes apart"):
        open_predictor("dualvit_n", weights=tmp_path / "backbone.pth", image_size=64)
    with pytest.raises(InputError, match="without weights it knows nothing"):
        open_predictor("dualvit_n", weights="random")


def onnx_file(file, outputs=3, channels=3, classes=("red", "green", "blue"), head="logits", shape=None):
    """An ONNX of few nodes: means of the channels, of which the first ones are answered."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto
    image = make.make_tensor_value_info("image", kind.FLOAT, ["batch", channels, "height", "width"])
    rows = make.make_tensor_value_info("rows", kind.FLOAT, None)
    shape = make.make_tensor("shape", kind.INT64, [2], shape or [0, outputs])
    nodes = [
        make.make_node("GlobalAveragePool", ["image"], ["mean"]), make.make_node("Reshape", ["mean", "shape"], ["rows"])
    ]  # fmt: skip
    opset = [make.make_opsetid("", 18)]
    model = make.make_model(make.make_graph(nodes, "a", [image], [rows], [shape]), opset_imports=opset, ir_version=9)
    task = "classify" if head == "logits" else "detect"
    resize = "crop" if head == "logits" else "letterbox"
    about = Metadata("a", task, classes, (32, 32), resize=resize, head=head, stride=32, dynamic=True)
    onnx.helper.set_model_props(model, {"dualvit": about.to_json()})
    onnx.save_model(model, file)
    return file


def test_files_whose_outputs_are_others_are_refused_when_they_are_opened(tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    right = open_predictor(onnx_file(tmp_path / "a.onnx"), "onnxruntime")
    (answer,) = right.predict([Image.new("RGB", (40, 32), (0, 0, 255))])
    assert answer["classes"][0]["name"] == "blue"
    with pytest.raises(InputError, match=r"does not take a batch of pictures \(B, 3, H, W\)"):
        open_predictor(onnx_file(tmp_path / "b.onnx", channels=4), "onnxruntime")
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        with pytest.raises(
            InputError, match=r"c\.onnx (fails in \w+ on a picture of 32x32|does not answer as a classify model)"
        ):
            open_predictor(onnx_file(tmp_path / "c.onnx", shape=[0, 5]), runtime)
    with pytest.raises(InputError, match=r"d\.onnx does not answer as a detect model with 3 classes"):
        open_predictor(onnx_file(tmp_path / "d.onnx", head="yolo"), "onnxruntime")
    torn = onnx_file(tmp_path / "e.onnx").read_bytes().replace(b"GlobalAverage", b"\xf6lobalAverage")
    (tmp_path / "e.onnx").write_bytes(torn)
    capfd.readouterr()
    with pytest.raises(InputError, match=r"e\.onnx"):
        open_predictor(tmp_path / "e.onnx", "onnxruntime")
    assert capfd.readouterr().out == ""


def test_a_folder_gets_predictions_pictures_and_reasons(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 30), (255, 0, 0)).save(pictures / "red.png")
    Image.new("RGB", (50, 30), (0, 0, 255)).save(pictures / "blue.png")
    (pictures / "bad.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    lines = list(predict_folder(colours(), [pictures], out))
    assert [line[:4] for line in lines] == ["blue", "red ", "skip"]
    said = json.loads((out / "predictions.json").read_text())
    assert [row["classes"][0]["name"] for row in said["predictions"]] == ["blue", "red"]
    assert "bad.jpg" in said["skipped"][0]
    assert (out / "red.png").is_file()
    with pytest.raises(InputError, match="none of the 1 images"):
        list(predict_folder(colours(), [pictures / "bad.jpg"], out))
