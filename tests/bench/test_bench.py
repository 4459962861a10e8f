"""The cost bench: figures of known networks, failures that stay alone, and mistakes in one line."""

import io
import json

import pytest
import torch
from rich.console import Console
from torch import nn

from dualvit.bench import bench as module
from dualvit.bench.bench import bench
from dualvit.bench.cost import macs, parameters
from dualvit.bench.machine import is_out_of_memory
from dualvit.bench.networks import bench_network, parse_model
from dualvit.bench.precision import prepare, relative_error
from dualvit.bench.report import show, write
from dualvit.bench.results import BenchSettings, Growth, Latency, Measurement, growths
from dualvit.fast import is_fused


@pytest.fixture(scope="module")
def result():
    return bench(BenchSettings(("dualvit_n", "resnet18"), (64, 96), ("float32", "int8"), batch=2, rounds=3))


def test_every_cell_has_its_figures(result):
    rows = {(r.model, r.image_size, r.dtype): r for r in result.measurements}
    assert len(rows) == 8
    for (model, size, _), row in rows.items():
        network = bench_network(model, size, features=False)
        assert row.parameters == parameters(network)
        assert row.macs == macs(network, size)
        assert row.latency.repeats == 3
        assert row.throughput == pytest.approx(2000 / row.latency.median)
        assert row.share > 0
    assert rows["resnet18", 64, "float32"].error is None
    assert 1e-4 < rows["resnet18", 64, "int8"].error < 0.3
    assert result.rate["float32"] > 1e8
    assert result.environment["hardware"]


def test_report(result, tmp_path):
    screen = io.StringIO()
    show(result, Console(file=screen, width=120))
    lines = screen.getvalue().splitlines()
    assert sum("resnet18" in line for line in lines) == 4 + 2  # rows, and exponents
    assert any("11.69" in line and "0.15" in line for line in lines)  # parameters and GMACs at 64 pixels
    files = write(result, tmp_path / "out")
    assert [file.name for file in files] == ["bench.json", "bench.svg", "bench.png", "report.html"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(result.to_json()))
    page = files[-1].read_text()
    assert page.count("<tr") == 1 + 8 and page.count("<svg ") == 1 and "<h2>How to get it again</h2>" in page
    assert page.count('class="best"') == 4  # the quickest at each size in each precision
    assert "report.html" not in [file.name for file in write(result, tmp_path / "other", report=False)]


def test_exponent_of_a_known_law():
    sizes = (64, 128, 512)
    times = [Latency(7 * (size**2) ** 1.5, 0, 0, 3) for size in sizes]
    rows = [Measurement("m", size, "float32", 1, latency=time) for size, time in zip(sizes, times, strict=True)]
    (growth,) = growths([*rows, Measurement("m", 64, "int8", 1, failure="out of memory")])
    assert growth == Growth("m", "float32", pytest.approx(1.5))
    assert str(growth) == "m float32: time grows as pixels ** 1.50"


def test_training_steps_count_three_times(monkeypatch):
    cases = []
    real = module.Case.measurement
    monkeypatch.setattr(module.Case, "measurement", lambda case, settings: cases.append(case) or real(case, settings))
    monkeypatch.setattr(module, "probe", lambda device, dtype: lambda: 1e9)
    bench(BenchSettings(("dualvit_n",), (64,), batch=2, train=True, features=True, grad_checkpointing=True, rounds=2))
    (case,) = cases
    assert not case.failure
    assert case.macs == 2 * macs(bench_network("dualvit_n", 64, features=True), 64)
    assert case.shares == [pytest.approx(3 * case.macs / seconds / 1e9) for seconds in case.times]


def test_recomputing_keeps_less_the_more_stages_it_takes():
    saved = []
    for stages in (False, (0,), (0, 1), True):
        (row,) = bench(
            BenchSettings(("dualvit_n",), (64,), batch=2, train=True, grad_checkpointing=stages, rounds=2)
        ).measurements
        saved.append(row.saved)
    assert saved == sorted(saved, reverse=True)
    assert len(set(saved)) == 4


def test_a_cell_without_memory_stays_alone(monkeypatch):
    real = module.bench_network

    def hungry(text, size, features, detector):
        if size == 96:
            torch.empty(1 << 46)
        return real(text, size, features, detector)

    monkeypatch.setattr(module, "bench_network", hungry)
    rows = bench(BenchSettings(("resnet18",), (64, 96, 128), rounds=2)).measurements
    assert [row.failure for row in rows] == ["", "out of memory", ""]
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(ValueError("no"))


@pytest.mark.parametrize("features", [False, True])
def test_fuse_reaches_the_network(features, monkeypatch):
    fused = []
    real = module.prepare
    monkeypatch.setattr(
        module, "prepare", lambda network, *rest: fused.append(is_fused(network)) or real(network, *rest)
    )
    bench(BenchSettings(("dualvit_n",), (64,), features=features, fuse=True, rounds=2))
    assert fused == [True]


def test_layer_scales_are_awake():
    """At 1e-6 bfloat16 would look exact, because no block would leave a trace."""
    with torch.inference_mode():
        network = bench_network("dualvit_s", 64, features=False).eval()
        image = torch.randn(1, 3, 64, 64)
        exact = network(image)
        low, cast, _ = prepare(network, image, "bfloat16")
        assert 1e-3 < relative_error(low(cast), exact) < 0.1


def test_models_with_options():
    assert parse_model("pyramid_n:mixer=local") == ("pyramid_n", {"mixer": "local"})
    assert parse_model("dualvit_s:key_grid=14x14:drop_rate=0.1")[1] == {"key_grid": (14, 14), "drop_rate": 0.1}
    assert isinstance(bench_network("swin_tiny_patch4_window7_224:depths=[1, 1, 1, 1]", 96, features=True), nn.Module)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"models": ("dualvit_z",)}, "unknown model 'dualvit_z'; did you mean dualvit_"),
        ({"models": ()}, "no models; name some"),
        ({"models": ("dualvit_n:semantic_grid",)}, "write name:option=value"),
        ({"image_size": (100,)}, "image_size is 100; sides must be multiples of 32, such as 96"),
        ({"dtypes": ("fp99",)}, "dtype is 'fp99'; give float32, bfloat16"),
        ({"dtypes": ("int8",), "train": True}, "dtype int8 is for inference"),
        ({"batch": 0}, "batch is 0; give 1 or more"),
        ({"rounds": 1}, "rounds is 1; give 2 or more"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not here"),
        ({"device": "toaster"}, "device 'toaster' is not here"),
    ],
)
def test_mistakes(keys, words):
    with pytest.raises(ValueError, match="") as caught:
        bench(BenchSettings(**{"models": ("dualvit_n",), **keys}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_yaml_is_built_by_the_detector_or_is_one_line():
    asked = []

    def detector(name, options):
        asked.append((name, options))
        return nn.Conv2d(3, 4, 3)

    settings = BenchSettings(("yolov8n-timm.yaml:backbone=resnet18",), (64,), rounds=2)
    (row,) = bench(settings, detector=detector).measurements
    assert asked == [("yolov8n-timm.yaml", {"backbone": "resnet18"})]
    assert row.parameters == 3 * 4 * 9 + 4
    (row,) = bench(BenchSettings(("yolov8n.yaml",), (64,), rounds=2)).measurements
    assert "no detector builds it" in row.failure


def test_a_wrong_option_stays_alone():
    rows = bench(BenchSettings(("resnet18:widht=3", "resnet18"), (64,), rounds=2)).measurements
    assert "widht" in rows[0].failure
    assert rows[1].latency is not None
