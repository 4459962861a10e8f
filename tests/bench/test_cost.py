"""Cost: counts that are known in closed form, and measurements that must at least order rightly."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualvit.bench.cost import PeakMemory, fuse_for_inference, latencies, macs, parameters
from dualvit.bench.results import Latency
from dualvit.fast import is_fused
from dualvit.models import create_model


class Attention(nn.Module):
    """One head over all pixels: two products of (pixels, pixels, channels)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image):
        tokens = image.flatten(2).transpose(1, 2)[:, None] * self.weight
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_macs_in_closed_form():
    assert macs(nn.Conv2d(3, 8, 3, stride=2, padding=1), 32) == 16 * 16 * 8 * 3 * 9
    assert macs(nn.Conv2d(4, 4, 3, padding=1, groups=4), 16, channels=4) == 16 * 16 * 4 * 9
    assert macs(Attention(), 8) == 2 * 64 * 64 * 3


def test_macs_of_known_networks():
    """The figures that timm's own results tables give."""
    assert macs(create_model("resnet18"), 224) == pytest.approx(1.82e9, rel=0.01)
    assert macs(create_model("dualvit_s"), 224) == pytest.approx(5.4e9, rel=0.02)


def test_macs_leave_the_mode_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = model[1].running_mean.clone()
    macs(model, 8)
    assert model.training
    assert torch.equal(model[1].running_mean, before)
    assert parameters(model) == 3 * 4 + 4 + 2 * 4


def test_latency_orders_small_and_large():
    small, large = nn.Conv2d(3, 4, 3), nn.Sequential(*[nn.Conv2d(3 if i == 0 else 64, 64, 3) for i in range(6)])
    times = latencies({"small": small, "large": large}, 64, repeats=7, warmup=1)
    assert [len(times[name]) for name in ("small", "large")] == [7, 7]
    assert Latency.of(times["large"]).median > Latency.of(times["small"]).median > 0


def test_latency_stops_after_its_time_but_not_before_five():
    times = latencies({"one": nn.Conv2d(3, 4, 3)}, 32, repeats=1000, warmup=0, seconds=0)
    assert len(times["one"]) == 5


def test_peak_memory_sees_what_was_given_back():
    memory = PeakMemory(cuda=False)
    memory.start()
    before = memory.bytes()
    torch.ones(64 << 20, dtype=torch.uint8)
    assert before < 32 << 20
    assert 60 << 20 < memory.bytes() < 128 << 20


def test_fusing_leaves_no_batch_norm_in_ours_and_the_same_outputs():
    model = create_model("dualvit_n", num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)
        fuse_for_inference(model)
        torch.testing.assert_close(model(image), before, rtol=1e-3, atol=1e-4)
    assert is_fused(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_fusing_asks_a_model_that_knows_how():
    class Own(nn.Module):
        def fuse(self):
            self.asked = True

    model = Own().eval()
    fuse_for_inference(model)
    assert model.asked


@pytest.mark.parametrize("name", ["yolov8n-dualvit.yaml", "yolov8n.yaml"])
def test_fusing_is_ultralytics_own_and_quiet(name, capfd):
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    from dualvit.yolo.engine import network

    model = network(name, {}, "detect", 3).eval()
    capfd.readouterr()
    fuse_for_inference(model)
    assert not any(hasattr(module, "bn") for module in model.modules())
    assert "summary" not in "".join(capfd.readouterr())
