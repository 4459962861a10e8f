"""Workers on a cluster of Ray: right answers, a false health when one dies, a swap and an end that lose nothing."""

import contextlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from asyncio import run
from pathlib import Path

import pytest
from test_serve import ROOT, files, source, write_colours  # noqa: F401
from typer.testing import CliRunner

pytest.importorskip("ray", reason="needs dualvit[batch]")
psutil = pytest.importorskip("psutil")

from dualvit_cli import app  # noqa: E402

NODES = 2
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # Ray's workers give way to all else, and beside other tests a start takes minutes
}


@pytest.fixture
def cluster():
    """The address of a cluster of two nodes with two cores each, all on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: Ray's sockets have names of at most 107 characters
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = [f"--port={address.partition(':')[2]}", "--head", f"--temp-dir={folder}", "--include-dashboard=false"]
    nodes = []
    try:
        for number in range(NODES):
            command = [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2",
                "--node-ip-address=127.0.0.1", "--object-store-memory=80000000", "--dashboard-agent-listen-port=0",
                *([f"--address={address}"] if number else head),
            ]  # fmt: skip
            with (folder / f"{number}.log").open("w") as log:
                nodes.append(subprocess.Popen(command, env=os.environ | QUIET, stdout=log, stderr=log))
            until(lambda node=nodes[-1], file=Path(log.name): node.poll() is not None or "started" in file.read_text())
            assert nodes[-1].poll() is None, Path(log.name).read_text()
        yield address
    finally:
        for node in reversed(nodes):
            children = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
            for one in (node, *children):  # to end in peace, Ray takes half a minute
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            node.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def until(condition, seconds=300.0):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds
        time.sleep(0.2)  # to look through all processes costs more than it
    return time.monotonic() - start


def seats():
    """The processes of the workers, wherever they are in the cluster."""
    return [one for one in psutil.process_iter(["name"]) if (one.info["name"] or "").startswith("ray::Seat")]


def healthy(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:  # 503, or no answer in time
        return False
    return True


@pytest.mark.slow
def test_workers_on_a_cluster(cluster, files, tmp_path):  # noqa: F811
    load = runpy.run_path(str(ROOT / "benchmarks/load_clients.py"))
    file, log = write_colours(tmp_path / "colours.onnx"), tmp_path / "log"
    command = [
        sys.executable, "-m", "dualvit", "serve", f"model={file}", "--address", cluster, "--workers", "2",
        "--port", "0", "--runtime", "onnxruntime",
    ]  # fmt: skip
    with log.open("w") as handle:
        server = subprocess.Popen(command, env=os.environ | QUIET, stdout=handle, stderr=handle)
    try:
        until(lambda: "http://" in log.read_text() or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        port = int(log.read_text().rpartition(":")[2].split("/")[0])
        until(lambda: healthy(port))
        assert len(seats()) == 2
        assert len({process.parent().pid for process in seats()}) == NODES  # one under each node's own process

        out = run(load["paced"](port, "model", files, 2.0, 20))
        assert out.wrong == []
        assert set(out.statuses) == {200}

        seats()[0].kill()
        assert until(lambda: not healthy(port), 5) < 2
        until(lambda: healthy(port))

        server.send_signal(signal.SIGHUP)
        out = run(load["paced"](port, "model", files, 2.0, 20))
        until(lambda: "version" in log.read_text())
        assert set(out.statuses) == {200}
        assert out.wrong == []

        ends = run(load["ended"](port, "model", files, server.terminate))
        assert set(ends) <= {"answered", "refused", "reset"}
        assert ends["answered"] > 8
        assert server.wait(60) == 0
        until(lambda: not seats(), 30)
    finally:
        server.kill()


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="needs dualvit[serve]")
    import ray

    def absent(**settings):
        raise ConnectionError(f"no cluster at {settings['address']}")

    monkeypatch.setattr(ray, "init", absent)
    file = write_colours(tmp_path / "colours.onnx")
    result = CliRunner().invoke(app, ["serve", str(file), "--address", "127.0.0.1:1"])
    assert result.exit_code != 0
    assert "the cluster at 127.0.0.1:1 does not start: no cluster at 127.0.0.1:1; correct --address" in " ".join(
        (result.output + str(result.exception)).split()
    )
