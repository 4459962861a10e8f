"""Fixtures of the page's tests: small checkpoints, a drawn picture, and the page in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import dualvit

SOURCE = Path(dualvit.__file__).parents[1]
LOCAL_ALONE = """
import socket, sys
def refuse(self, address):
    near = ("127.", "localhost", "::1")
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(near):
        print("left this machine:", address, file=sys.stderr)
        raise OSError("no network here")
    return connect(self, address)
connect = socket.socket.connect
socket.socket.connect = refuse
"""


def interruptible():
    """Take interrupts, also if the tests run in the background of a shell, which has them ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder with the shipped starts of a detector and of one with masks, and a classifier that knows nothing."""
    from dualvit.weights.starts import start_file
    from dualvit.yolo import YOLO

    folder = tmp_path_factory.mktemp("models")
    for name, start in (("detect", "yolov8n-dualvit"), ("masks", "yolov8n-dualvit-seg")):
        (folder / f"{name}.safetensors").write_bytes(start_file(start).read_bytes())
    YOLO("yolov8n-dualvit-cls.yaml").save_weights(folder / "classify.safetensors")
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A picture of five faces, which the starts find."""
    from dualvit.app.examples import draw_faces

    file = tmp_path_factory.mktemp("drawn") / "drawn.png"
    draw_faces(0).save(file)
    return file


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """Start `dualvit app` in a process that reaches this machine alone; what it prints goes to two files."""
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(LOCAL_ALONE)
    path = os.pathsep.join([str(guard), str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = []

    def start(*arguments, wait=240):
        folder = tmp_path_factory.mktemp("app")
        out, err = folder / "out.txt", folder / "err.txt"
        env = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        line = [sys.executable, "-c", "from dualvit_cli import main; main()", "app", *map(str, arguments)]
        with out.open("w") as o, err.open("w") as e:
            process = subprocess.Popen(
                line, stdout=o, stderr=e, stdin=subprocess.DEVNULL, env=env, cwd=folder, preexec_fn=interruptible
            )
        started.append(process)
        end = time.monotonic() + wait
        while time.monotonic() < end and process.poll() is None and "http://" not in out.read_text():
            time.sleep(0.1)
        return SimpleNamespace(process=process, out=out, err=err, folder=folder)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
