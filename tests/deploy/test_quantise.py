"""int8: which layers become it, which stay in float by measurement, what scores lose, and mistakes in one line."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dualvit.deploy import precision, quantise, subjects
from dualvit.deploy.metadata import read_metadata
from dualvit.deploy.precision import HINTS, Settings, score_shift, smaller, write
from dualvit.deploy.quantise import Compiled, Found, Layer, eligible, in_float, layers, open_model, roles, to_int8
from dualvit.deploy.runtimes import export_onnx, missing
from dualvit.errors import InputError, MissingExtraError, MissingFileError

SIDE = 24


class Tiny(nn.Module):
    """A classifier of 5 classes; `late` reads a map of which one channel, that it ignores, is a thousand times larger.

    One scale for all of that map leaves the other channels few of 256 steps.
    """

    def __init__(self):
        super().__init__()
        self.early, self.middle = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.late, self.head = nn.Conv2d(8, 16, 1), nn.Linear(16, 5)
        with torch.no_grad():
            self.middle.weight[0] *= 1000
            self.late.weight[:, 0] = 0

    def forward(self, image):
        maps = self.late(self.middle(self.early(image).relu()).relu()).relu()
        return self.head(10 * maps.mean((2, 3))).softmax(1)


def error(before, after):
    return float(np.abs(before[0] - after[0]).max())


class Stand:
    """What stands for a checkpoint: a score of 1, or what is given, and no boxes."""

    name, image_size, counted, sure = "tiny", SIDE, "boxes", 0.25

    def __init__(self, pictures, scores=(1.0, 1.0)):
        self.pictures, self.scores, self.error = pictures, list(scores), error

    def picture(self, file):
        return self.pictures[file]

    def score(self, run):
        run(self.pictures[0])
        return {"accuracy": self.scores.pop(0)}, {}

    def describe(self):
        return {"task": "classify", "classes": tuple("abcde"), "image_size": (SIDE, SIDE), "outputs": ("logits",)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The network in OpenVINO, pictures, what a search found, and the int8 model after it."""
    if missing("openvino") or not find_spec("nncf"):  # not by importing it, with its telemetry
        pytest.skip("needs dualvit[quantise]")
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_onnx(Tiny().eval(), torch.rand(1, 3, SIDE, SIDE), file)
    draw = np.random.default_rng(0)
    pictures = [draw.random((1, 3, SIDE, SIDE), dtype=np.float32) * (0.2 + index / 8) for index in range(8)]
    made = smaller(
        Stand(pictures), open_model(file), {"names": "{0: 'a'}", "batch": "1"}, range(8), Settings(shift=0.01)
    )
    return SimpleNamespace(model=made.float_model, pictures=pictures, made=made, int8=Compiled(made.model))


def test_the_search_finds_the_layer_that_loses_most(tiny):
    found = tiny.made.found
    assert found.reached and found.unasked == 0
    assert [name.split("/")[1] for name in found.floats] == ["late"]
    assert next(iter(found.ranking)) == "late/Conv"
    assert set(found.ranking) == {"early/Conv", "middle/Conv", "late/Conv"}
    assert found.errors[0] > 0.03 > 0.01 >= found.errors[1]
    assert tiny.made.floats == ("late/Conv",)


def test_what_is_listed_is_float_and_the_rest_int8(tiny):
    kinds = {str(one): one.int8 for one in layers(tiny.made.model)}
    assert {name: small for name, small in kinds.items() if "Conv" in name} == {
        "early/Conv": True, "middle/Conv": True, "late/Conv": False,
    }  # fmt: skip
    nodes = [node.get_type_name() for node in tiny.made.model.get_ops()]
    assert nodes.count("FakeQuantize") >= 2
    assert {one.int8 for one in layers(tiny.model)} == {False}  # the float model stays as it was
    whole = sum(one.work for one in layers(tiny.model))
    assert tiny.made.share == pytest.approx(sum(one.work for one in layers(tiny.made.model) if one.int8) / whole)
    assert set(tiny.made.ran[0]) == {"f32"}


def test_answers_stay_near_with_the_same_classes(tiny):
    run = Compiled(tiny.model)
    for picture in tiny.pictures:
        expected, (answer,) = run(picture), tiny.int8(picture)
        assert error(expected, [answer]) < 0.03
        assert answer.argmax() == expected[0].argmax()


def test_layers_that_are_taken_back_compute_as_before(tiny):
    loose = to_int8(tiny.model, tiny.pictures, loose=True)
    every = [one.name for one in layers(loose)]
    assert not any(one.int8 for one in layers(in_float(loose, every)))
    picture, run = tiny.pictures[3], Compiled(tiny.model)
    assert error(run(picture), Compiled(in_float(loose, every))(picture)) < error(
        run(picture), Compiled(loose)(picture)
    )


def test_work_is_counted_in_multiply_adds(tiny):
    half = SIDE // 2
    assert {str(one): one.work for one in layers(tiny.model) if one.kind == "Convolution"} == {
        "early/Conv": 8 * 3 * 9 * half**2, "middle/Conv": 8 * 8 * 9 * half**2, "late/Conv": 8 * 16 * half**2,
    }  # fmt: skip
    assert {one.kind for one in eligible(tiny.model)} == {"Convolution"}  # the product is too small a part


def test_roles_hold_layers_of_all_scales():
    names = ["/m/cv3.0/cv3.0.2/Conv/WithoutBiases", "/m/cv3.1/cv3.1.2/Conv", "/m/cv3.1/cv3.1.1/Conv", "/m/dfl/Conv"]
    found = roles([Layer(name, "Convolution", 1, False) for name in names])
    assert [len(some) for some in found.values()] == [2, 1, 1]


def test_the_file_opens_again_with_its_names(tiny, tmp_path):
    place = tmp_path / "tiny-int8_openvino_model"
    write(tiny.made, place, "tiny", "int8")
    assert sorted(file.name for file in place.iterdir()) == ["metadata.yaml", "tiny.bin", "tiny.xml"]
    assert (place / "metadata.yaml").read_text() == "names:\n  0: a\nbatch: 1\n"
    about = read_metadata(place)
    assert about.precision == "int8" and not about.dynamic and about.classes == tuple("abcde")
    again = Compiled(place / "tiny.xml")
    assert error(again(tiny.pictures[0]), tiny.int8(tiny.pictures[0])) < 1e-6


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_other_precisions_say_what_the_cpu_computed(tiny, name):
    made = smaller(Stand(tiny.pictures, (0.5, 0.4)), tiny.model, {}, [], Settings(name))
    assert made.found is None and made.floats == () and made.share == 0
    assert made.kept == pytest.approx(0.8) and set(made.ran[1]) <= {"f32", "f16", "bf16"}
    assert error(Compiled(made.model, 1, HINTS[name])(tiny.pictures[0]), Compiled(tiny.model)(tiny.pictures[0])) < 0.03


def test_scores_are_compared_box_by_box():
    def row(left, score, kind=0):
        return {"category_id": kind, "bbox": [left, 0, 10, 10], "score": score}

    before = {"a": [row(0, 0.9), row(50, 0.5), row(80, 0.02)], "b": [row(0, 0.6, 1)]}
    after = {"a": [row(1, 0.8), row(52, 0.6), row(80, 0.03)], "b": [row(0, 0.6, 0)], "c": [row(0, 0.1)]}
    assert score_shift(before, after) == precision.Shift(pytest.approx(0.1), 2, 1, 1)
    assert score_shift(before, before) == precision.Shift(0.0, 3, 0, 0)


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^3 pictures to calibrate on are too few; give at least 8$"):
        subjects.chosen([tmp_path] * 9, 3, "it")
    with pytest.raises(InputError, match=r"^it has 7 pictures to calibrate on; give at least 8$"):
        subjects.chosen([tmp_path] * 7, 128, "it")
    assert subjects.chosen(range(100), 10, "it") == list(range(0, 100, 10))
    with pytest.raises(MissingFileError, match=r"^no model at .*best\.pt; give a checkpoint"):
        subjects.open_subject(tmp_path / "best.pt", tmp_path)
    (tmp_path / "best.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"best\.onnx is no checkpoint; give the one that it was exported from"):
        subjects.open_subject(tmp_path / "best.onnx", tmp_path)
    monkeypatch.setattr(quantise, "find_spec", lambda name: None)
    monkeypatch.setattr(quantise, "missing", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"^dualvit quantise needs nncf; install dualvit\[quantise\]$"):
        quantise.require_quantiser()


def test_a_file_that_takes_any_size_is_one_line(tmp_path):
    if missing("openvino"):
        pytest.skip("needs dualvit[quantise]")
    torch.onnx.export(
        Tiny().eval(), (torch.rand(1, 3, SIDE, SIDE),), str(tmp_path / "free.onnx"), dynamo=False, opset_version=17,
        input_names=["image"], dynamic_axes={"image": {2: "height"}},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"free\.onnx takes any size, and int8 is made for one; export it without"):
        open_model(tmp_path / "free.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"^openvino cannot open .*broken\.onnx: .*; export it anew$"):
        open_model(tmp_path / "broken.onnx")


def test_nncf_comes_without_telemetry(tiny):
    converter = "openvino.tools.ovc.convert_impl"
    before = converter in sys.modules  # by Ultralytics' own exporter, in an earlier test
    quantise.import_nncf()
    assert not hasattr(sys.modules["nncf.telemetry.wrapper"], "Telemetry")  # what it calls a server with
    assert before or sys.modules[converter].tm.__name__.endswith("telemetry_stub")
    import openvino_telemetry  # noqa: F401  # others may still have it


def test_counts_grow():
    assert list(quantise._counts(15)) == [1, 2, 3, 4, 6, 8, 12, 15]
    assert list(quantise._counts(1)) == [1]
    assert Found((), {0: 0.1}, {}, True, 0).errors[0] == 0.1
