"""Every family of YOLO on Dual-ViT and on timm: builds, trains, exports; its rows are those that Ultralytics ships."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import ultralytics
from ultralytics.nn import tasks

from dualvit.families import FAMILIES, SUFFIXES, names
from dualvit.meta import on_meta
from dualvit.yolo import YOLO
from dualvit.yolo.stock import derive, installed

FOUR = ("yolov8", "yolo11", "yolo12", "yolo26")
# Where a stock model's own backbone is larger or smaller than Dual-ViT's N or T by more. In percent.
APART = {
    ("yolov8", "classify", "s"): 8.1, ("yolo12", "classify", "n"): -6.5, ("yolo12", "classify", "s"): -6.9,
}  # fmt: skip
COUNT_OLDEST = """
import json, sys
import dualvit.yolo
from dualvit.yolo import YOLO
from dualvit.yolo.stock import installed
said = ""
try:
    YOLO("yolo26n-timm-seg.yaml", backbone="resnet10t")
except RuntimeError as error:
    said = str(error)
print(json.dumps([installed(), said]))
"""


def size(d: dict) -> int:
    with on_meta():
        return sum(p.numel() for p in tasks.parse_model(d, ch=3, verbose=False)[0].parameters())


def test_the_newest_has_every_family():
    assert installed() == [name for family in FAMILIES for name in names(family)]


@pytest.mark.parametrize("family", FAMILIES)
def test_neck_and_head_are_the_stock_rows(family):
    """Modules, repeats and arguments are the same; each row reads what it read, but for the backbone's."""
    known = FAMILIES[family]
    for task in known.tasks:
        stock = tasks.yaml_model_load(f"{family}{known.scales[0]}{SUFFIXES[task]}.yaml")
        ours = derive(f"{family}{known.scales[0]}-timm{SUFFIXES[task]}.yaml")
        shift = 4 - len(stock["backbone"])
        assert [row[1:] for row in ours["head"]] == [row[1:] for row in stock["head"]]
        read = [(to, of) for a, b in zip(ours["head"], stock["head"], strict=True) for to, of in pairs(a[0], b[0])]
        inside = [(to, of) for to, of in read if of >= len(stock["backbone"])]
        assert all(to == of + shift for to, of in inside)
        assert {to for to, of in read if 0 <= of < len(stock["backbone"])} <= {1, 2, 3}
        assert {key: value for key, value in ours.items() if key not in ("head", "scale", "yaml_file")} == {
            key: value for key, value in stock.items() if key not in ("head", "scale", "yaml_file", "backbone")
        }


def task_of(name: str) -> str:
    return next(task for task in reversed(SUFFIXES) if f"{SUFFIXES[task]}." in name)


def pairs(ours, stock):
    return zip(*((row if isinstance(row, list) else [row]) for row in (ours, stock)), strict=True)


@pytest.mark.parametrize("scale", "ns")
@pytest.mark.parametrize("family", FOUR)
def test_parameters_are_within_five_percent_of_the_stock_file(family, scale):
    for task, suffix in SUFFIXES.items():
        stock = size(tasks.yaml_model_load(f"{family}{scale}{suffix}.yaml"))
        apart = 100 * (size(tasks.yaml_model_load(f"{family}{scale}-dualvit{suffix}.yaml")) / stock - 1)
        known = APART.get((family, task, scale))
        assert abs(apart) <= 5 if known is None else apart == pytest.approx(known, abs=0.1)


@pytest.mark.parametrize("name", installed())
def test_every_scale_has_its_backbone(name):
    family, start = re.match(r"(yolov?\d+)(.)", name).groups()
    found = [derive(name.replace(f"{family}{start}", f"{family}{scale}")) for scale in FAMILIES[family].scales]
    assert [d["scale"] for d in found] == list(FAMILIES[family].scales)
    expected = [FAMILIES[family].backbones() if "dualvit" in name else None] * len(found)
    assert [d.get("backbone") for d in found] == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yolo26n-dualvit-p2.yaml", r"yolo26 has no -p2, but yolo26n-dualvit\.yaml, with -seg -cls -pose -obb; use"),
        ("yolo26s-timm-sem.yaml", r"yolo26 has no -sem, but yolo26s-timm\.yaml"),
        ("yolo26n-dualvit-depth.yaml", "no -depth"),
        ("yolov8n-dualvit-seg-p6.yaml", "no -seg-p6"),
        ("yolov10n-timm-seg.yaml", r"yolov10 has no -seg, but yolov10n-timm\.yaml; use"),
        ("yolov9n-dualvit.yaml", "yolov9 has no scale 'n'; it has t, s, m, c, e"),
    ],
)
def test_what_a_family_does_not_have_is_one_line(name, words):
    with pytest.raises(ValueError, match=words):
        YOLO(name, **({"backbone": "resnet10t"} if "timm" in name else {}))


def test_an_older_ultralytics_names_the_version_that_it_lacks(fresh):
    known, said = json.loads(fresh("-c", COUNT_OLDEST, version="oldest").stdout.splitlines()[-1])
    assert known == [name for family in ("yolov8", "yolov9", "yolov10") for name in names(family)]
    assert said == (
        "yolo26n-timm-seg.yaml needs ultralytics 8.4.0 or newer, and 8.2.103 is installed; update it, or use "
        "yolov8n-timm-seg.yaml"
    )


def test_a_head_of_other_maps_names_the_version(monkeypatch):
    monkeypatch.setitem(SUFFIXES, "detect", "-p2")
    with pytest.raises(RuntimeError, match=rf"the head in ultralytics {ultralytics.__version__} takes 4 maps"):
        derive("yolo26n-timm-p2.yaml")


# Each family, each task and each backbone once: model, backbone, and what a batch of two answers at 128x192 pixels.
CASES = [
    ("yolov8n-timm-seg.yaml", "tf_efficientnet_lite0", [[2, 4 + 10 + 32, 504], [2, 32, 32, 48]]),
    ("yolo11n-timm-obb.yaml", "mobilenetv4_conv_small", [[2, 4 + 10 + 1, 504]]),
    ("yolo12n-timm-cls.yaml", "convnext_atto", [[2, 10]]),
    ("yolo26n-timm-pose.yaml", "swin_tiny_patch4_window7_224", [[2, 300, 6 + 4 * 2]]),
    ("yolo26n-dualvit.yaml", None, [[2, 300, 6]]),
]


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("onnxruntime", reason="needs dualvit[export]")
    file = Path(__file__).parents[2] / "benchmarks" / "families.py"
    spec = importlib.util.spec_from_file_location("families", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone", "outputs"), CASES)
def test_learns_and_answers_alike_as_onnx(name, backbone, outputs, bench, tmp_path):
    """A short form of benchmarks/families.py."""
    report = bench.study(name, backbone, bench.data_of(task_of(name), tmp_path), tmp_path)
    assert len(report["losses"]) == 2 and np.isfinite(report["losses"]).all()
    assert report["outputs"] == outputs
    assert report["parity"] <= 1e-3
