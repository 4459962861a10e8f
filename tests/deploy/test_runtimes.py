"""Runtimes: the same answers from one ONNX file, pools that ONNX lacks, and what is missing or broken in one line."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualvit.bench.nodes import kinds
from dualvit.deploy import runtimes
from dualvit.deploy.runtimes import (
    NEEDS,
    MatrixPool,
    disagreement,
    export_onnx,
    missing,
    open_runtime,
    with_matrix_pools,
)
from dualvit.errors import InputError, MissingExtraError

INSTALLED = [name for name in NEEDS if missing(name) is None]


class Pyramid(nn.Module):
    """A map, and means over 3 x 3 and 6 x 6 places of it, enlarged; as UPerNet has them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in (1, 3, (6, None)))

    def forward(self, image):
        maps = self.conv(image).relu()
        return maps, [F.interpolate(pool(maps), maps.shape[2:], mode="bilinear") for pool in self.pools]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """A network with pools, a picture, its outputs, and the ONNX file."""
    if not INSTALLED:
        pytest.skip("needs dualvit[export]")
    torch.manual_seed(0)
    network, image = Pyramid().eval(), torch.rand(1, 3, 20, 28)
    file = tmp_path_factory.mktemp("onnx") / "network.onnx"
    export_onnx(network, image, file)
    assert [path.name for path in file.parent.iterdir()] == ["network.onnx"]
    assert isinstance(network.pools[1], nn.AdaptiveAvgPool2d)  # the network itself stays
    with torch.inference_mode():
        return image.numpy(), [value.numpy() for value in runtimes.flat(network(image))], file


@pytest.mark.parametrize("name", INSTALLED)
def test_each_runtime_answers_as_eager(pyramid, name):
    image, expected, file = pyramid
    run = open_runtime(name, file, threads=1)
    first = run(image)
    assert disagreement(first, expected) < 1e-5
    run(image + 1)
    assert disagreement(first, expected) < 1e-5  # answers stay when another picture comes
    assert disagreement(run(image + 1), expected) > 0.1


@pytest.mark.parametrize("name", INSTALLED)
def test_a_profile_names_the_kinds(pyramid, name):
    image, _, file = pyramid
    found, again = kinds(name, {"a": file, "b": file}, image, threads=1, passes=3, warmup=1).values()
    (name,) = (key for key in found if key in ("Conv", "FusedConv", "Convolution"))
    convolution = found[name]
    assert again[name].nodes == convolution.nodes  # OpenVINO may put other Reorders around it
    assert convolution.nodes == 1 and convolution.milliseconds > 0
    times = [kind.milliseconds for kind in found.values()]
    assert times == sorted(times, reverse=True)
    assert [path.name for path in file.parent.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize("size", [1, 3, (4, 7), (None, 2), [2, 5]])
def test_pools_as_products_equal_torchs(size):
    pool, maps = nn.AdaptiveAvgPool2d(size), torch.randn(2, 3, 7, 10)
    torch.testing.assert_close(MatrixPool(pool)(maps), pool(maps))


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="needs dualvit[export]")
def test_pools_are_torchs_in_a_file_of_any_size(tmp_path):
    pool, file = nn.Sequential(nn.AdaptiveAvgPool2d(3)), tmp_path / "pool.onnx"
    free = {"image": {2: "height", 3: "width"}}
    torch.onnx.export(with_matrix_pools(pool), (torch.rand(1, 2, 3, 4),), str(file), dynamo=False, opset_version=17,
                      input_names=["image"], dynamic_axes=free)  # fmt: skip
    run = open_runtime("onnxruntime", file, threads=1)
    for size in ((1, 1), (1, 2), (3, 4), (7, 5)):  # fewer places than means, as many, and no multiple
        maps = torch.rand(1, 2, *size)
        torch.testing.assert_close(torch.from_numpy(run(maps.numpy())[0]), pool(maps))


GUARDED = """
import socket, sys
from pathlib import Path
def deny(*_, **__):
    print("a connection")
    raise OSError
socket.socket.connect = socket.getaddrinfo = deny
import numpy
from dualvit.deploy.runtimes import open_runtime, versions
name, file = sys.argv[1:]
assert versions([name])  # the first import
print(open_runtime(name, Path(file), 1)(numpy.zeros((1, 3, 20, 28), "float32"))[0].shape)
if name == "openvino":
    import openvino_telemetry  # others may still have it
"""


@pytest.mark.parametrize("name", INSTALLED)
def test_runtimes_tell_nobody(pyramid, tmp_path, name):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_", "CI"))}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, name, str(pyramid[2])],
        capture_output=True, text=True, env={**environment, "HOME": str(tmp_path)}, check=True,
    )  # fmt: skip
    assert done.stdout == "(1, 8, 10, 14)\n"
    assert not list(tmp_path.iterdir())


FREED = """
import signal, subprocess, sys, threading
from pathlib import Path
import numpy
from dualvit.deploy.runtimes import open_runtime
signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch does, once it loads data in processes
held = [open_runtime("openvino", Path(sys.argv[1]), 1)]
held[0](numpy.zeros((1, 3, 20, 28), "float32"))
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
subprocess.run(["true"])
print("alive")
"""


@pytest.mark.skipif("openvino" not in INSTALLED, reason="needs dualvit[export]")
def test_a_model_of_openvino_may_be_freed_by_another_thread(pyramid):
    done = subprocess.run([sys.executable, "-c", FREED, str(pyramid[2])], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.mark.parametrize("name", INSTALLED)
def test_a_file_that_is_no_onnx_is_one_line(tmp_path, name):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"no network")
    with pytest.raises(InputError, match=rf"^{name} cannot open .*broken.onnx: .*; export it anew$") as error:
        open_runtime(name, file, 1)
    assert "\n" not in str(error.value)


def test_what_is_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "NEEDS", {"openvino": ("torch", "absent_package")})
    assert missing("openvino") == "absent_package"
    with pytest.raises(MissingExtraError, match=r"^openvino needs absent_package; install dualvit\[export\]$"):
        open_runtime("openvino", tmp_path / "x.onnx", 1)


def test_disagreement_is_absolute_for_small_and_relative_for_large():
    assert disagreement([np.array([640.641, 0.0])], [np.array([640.0, 0.0])]) == pytest.approx(1e-3)
    assert disagreement([np.array([0.002])], [np.array([0.001])]) == pytest.approx(0.001 / 1.001)
    for other in ([np.zeros(3)], [np.zeros(2), np.zeros(2)], [np.full(2, np.nan)]):
        assert disagreement(other, [np.zeros(2)]) == float("inf")
    assert disagreement([np.zeros((0, 4))], [np.zeros((0, 4))]) == 0
