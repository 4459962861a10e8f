"""Fixtures of all tests: the shared files, the golden filler, and a network that is out of reach."""

import atexit
import contextlib
import importlib.util
import ipaddress
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.allocator import give_back

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("YOLO_OFFLINE", "true")  # read when ultralytics is imported, by whichever test comes first
os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="dualvit-settings-")  # not the reader's own settings
atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
torch.set_num_threads(1)  # the workers share the cores

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items):
    """Files with the most slow tests first, then those with most tests: workers take whole files in this order.

    So a long one is not the last.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    tests = Counter(item.path for item in items)
    # The path keeps a file's tests together, and the sort is stable: a file's own order stays.
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node, error):
    """Say how a worker died, which it cannot say itself; the run ends with it."""
    if error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = node.gateway._io.popen.wait(20)
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            node.config.pluginmanager.getplugin("terminalreporter").write_line(f"{node.gateway.id} ended with {how}")


class NetworkTouched(RuntimeError):
    """A test tried to reach the network."""


def _is_local(host):
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def network_attempts():
    """Let every connection beyond this machine raise; the list names those that were tried."""
    attempts = []
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    real_getaddrinfo = socket.getaddrinfo

    def check(host):
        if not _is_local(host):
            attempts.append(host)
            raise NetworkTouched(f"a test tried to reach {host!r}; tests work offline")

    def guarded(name):
        def method(self, *args):
            address = args[-1]  # (host, port, ...); a path for a socket within this machine
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return real[name](self, *args)

        return method

    def getaddrinfo(host, *args, **kwargs):
        check(host)
        return real_getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(socket.socket, name, guarded(name))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield attempts


@pytest.fixture(scope="session")
def shared() -> Path:
    """The files that every developer has beside the project, or a skip."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: small data sets live there")
    return SHARED


@pytest.fixture(scope="session")
def makers(shared):
    """What makes each of the small data sets "as people have them", by its name in shared/cases/README.md."""
    return runpy.run_path(str(shared / "cases/make.py"))["CASES"]


@pytest.fixture
def case(makers, tmp_path):
    """Make one of these data sets, and return its folder."""

    def make(name: str) -> Path:
        makers[name](tmp_path / name)
        return tmp_path / name

    return make


GOLDEN = Path(__file__).parent / "golden"


def golden_folder(name: str) -> Path:
    """The folder that has a network's golden answers, beside the project or in the tests; or a skip."""
    for folder in (SHARED / "golden", GOLDEN):
        if (folder / f"{name}.npz").is_file():
            return folder
    pytest.skip(f"{SHARED / 'golden'} is absent: only the answers of dualvit_s are in {GOLDEN}")


class Golden:
    """Weights, images and the papers' own answers, see tests/golden/README.md."""

    def __init__(self):
        spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
        self.fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.fill)
        self.image, self.folder = self.fill.image, golden_folder

    def state_dict(self, name):
        """A network's published entries, filled by formula."""
        entries = json.loads((self.folder(name) / f"{name}.json").read_text())
        return {key: self.fill.fill(key, tuple(shape)) for key, shape in entries.items()}


@pytest.fixture(scope="session")
def golden() -> Golden:
    """`state_dict(name)`, `image(batch, height, width)`, and `folder(name)` with the recorded answers."""
    return Golden()


@pytest.fixture(scope="module", autouse=True)
def _memory():
    """What a file's tests freed goes back: commands that run in this process have the allocator keep it."""
    yield
    give_back()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


STARTS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
watched: list[list] = []  # lists that take what is started, while a test watches


def _audit(event, arguments):
    if watched and event in STARTS:
        watched[-1].append((event, arguments))


sys.addaudithook(_audit)


@pytest.fixture
def canary(tmp_path, network_attempts):
    """A file that hostile content would write; when the test ends it must not be there, nor a process or a connection.

    `git`, which says what commit the package is of, is no such process.
    """
    file, tried, started = tmp_path / "canary", len(network_attempts), []
    watched.append(started)
    yield file
    watched.remove(started)
    assert not file.exists()
    assert network_attempts[tried:] == []
    assert [call for call in started if "git" not in str(call[1][0])] == []


@pytest.fixture(scope="session")
def blotches(tmp_path_factory):
    """Ten pictures of 80x72 with something to see in each."""
    folder, rng = tmp_path_factory.mktemp("blotches"), np.random.default_rng(0)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((80, 72)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """Weights of mobilenetv3_small_050 as it is initialised, whose maps are no less definite for it."""
    import timm

    file = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), file)
    return file


@pytest.fixture
def layout(tmp_path):
    """A data set in the YOLO layout: two pictures of 96x64 for each split, each with a box."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for name in "ab":
            Image.new("RGB", (96, 64)).save(tmp_path / "images" / split / f"{name}.png")
            (tmp_path / "labels" / split / f"{name}.txt").write_text("0 0.375 0.375 0.25 0.25\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    return tmp_path
