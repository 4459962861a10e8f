"""Fixtures of the YOLO tests: a tiny data set, and fresh interpreters on two Ultralytics versions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dualvit

pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")

OLDEST = Path(sys.prefix) / "oldest"
SOURCE = Path(dualvit.__file__).parents[1]  # of the package under test, wherever another one is installed
HERE = Path(__file__).parent
NO_NETWORK = """
import socket
def refuse(self, address, *rest):
    local = str(address[0]).startswith(("127.", "localhost", "::1"))
    if self.family in (socket.AF_INET, socket.AF_INET6) and not local:
        raise RuntimeError(f"a test tried to reach {address}")
    return connect(self, address, *rest)
connect = socket.socket.connect
socket.socket.connect = refuse
"""


@pytest.fixture
def flops():
    """For tests of what is counted; for others see below."""


@pytest.fixture(autouse=True)
def _no_flops(request, monkeypatch):
    """Nothing is counted: Ultralytics would run each model that it builds, trains or validates on 640x640 pixels."""
    if "flops" not in request.fixturenames:
        monkeypatch.setattr("thop.profile", lambda *_, **__: (0, 0))


@pytest.fixture
def reports():
    """For tests of the page that a training ends in; for others see below."""


@pytest.fixture(autouse=True)
def _no_reports(request, monkeypatch):
    """No training ends in a page: it would take a second each."""
    if "reports" not in request.fixturenames:
        monkeypatch.setattr("dualvit.yolo.trainers.reports", lambda: False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The data.yaml of 12 images of 64x64."""
    from dualvit.drawn.digits import write_digits

    return write_digits(tmp_path_factory.mktemp("data") / "digits", images=12, size=64)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """Run a Python script in a fresh interpreter, on the newest or oldest Ultralytics, without a network."""
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(NO_NETWORK)

    def run(*command: str, version: str = "newest") -> subprocess.CompletedProcess:
        if version == "oldest" and not OLDEST.exists():
            pytest.skip(f"the oldest Ultralytics is not in {OLDEST}; `make test` puts it there")
        path = [str(guard), *([str(OLDEST)] if version == "oldest" else []), str(SOURCE)]
        settings = tmp_path_factory.getbasetemp() / f"settings-{version}"
        settings.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=500,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "YOLO_CONFIG_DIR": str(settings)},
        )
        if done.returncode:
            raise AssertionError(f"{command} ended in {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}")
        return done

    return run


@pytest.fixture(scope="session")
def stages(fresh):
    """Run stages of end_to_end.py: a process for each pair of their names and options; returns what each reports."""

    def run(jobs: list[tuple[str, dict]], version: str) -> list:
        done = fresh(str(HERE / "end_to_end.py"), json.dumps(jobs), version=version)
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
