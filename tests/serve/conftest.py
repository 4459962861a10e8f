"""A model that says which colour a picture has, as an exported file, and servers of it in this process."""

import asyncio
import contextlib
import runpy
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper

from dualvit.deploy.metadata import KEY, Metadata
from dualvit.serve.app import Server, make_app
from dualvit.serve.limits import Limits, Source
from dualvit.serve.server import PatientProtocol, Running, listen, prepare

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "green", "blue")


def write_colours(file, classes=COLOURS):
    """The mean of each channel, times 20, as logits."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "twenty"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    twenty = onnx.numpy_helper.from_array(np.array(20, np.float32), "twenty")
    graph = helper.make_graph(nodes, "colours", [image], [logits], [twenty])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, Metadata("colours", "classify", tuple(classes), (32, 32)).to_json()
    onnx.save(model, file)
    return file


@pytest.fixture(scope="session")
def load():
    """The load script's functions, with slow clients that are soon known to be slow."""
    return runpy.run_path(str(ROOT / "benchmarks/load.py"))


@contextlib.contextmanager
def served(sources, limits=None, key=None):
    """A server in a thread: its port, itself, and what runs it."""
    prepare(sources)
    server = Server(sources, limits or Limits(), key)
    listening = listen("127.0.0.1", 0)
    protocol = type("Protocol", (PatientProtocol,), {"seconds": server.limits.timeout})
    config = uvicorn.Config(make_app(server), http=protocol, ws="none", log_level="error")
    running = Running(config, server)
    thread = threading.Thread(target=asyncio.run, args=(running.serve([listening]),))
    thread.start()
    try:
        yield listening.getsockname()[1], server, running
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(condition, seconds=60.0):
    """Wait for a condition; the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    file = write_colours(tmp_path_factory.mktemp("served") / "colours.onnx")
    return Source("colours", str(file), "onnxruntime")
