"""A server: right answers beside bad requests, leaving clients and dead workers; swaps and an end that lose nothing."""

import asyncio
import contextlib
import io
import json
import os
import runpy
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualvit.data.images import open_rgb
from dualvit.deploy.metadata import KEY as METADATA
from dualvit.deploy.metadata import Metadata
from dualvit.deploy.predictor import open_predictor
from dualvit.errors import InputError, MissingFileError
from dualvit.serve.limits import Limits, Source, named, read_key

onnx = pytest.importorskip("onnx", reason="needs dualvit[serve]")
helper = pytest.importorskip("onnx.helper", reason="needs dualvit[serve]")
arrays = pytest.importorskip("onnx.numpy_helper", reason="needs dualvit[serve]")
uvicorn = pytest.importorskip("uvicorn", reason="needs dualvit[serve]")
pytest.importorskip("fastapi", reason="needs dualvit[serve]")
pytest.importorskip("onnxruntime", reason="needs dualvit[serve]")

from dualvit.serve.app import Server, make_app  # noqa: E402
from dualvit.serve.forks import prepare  # noqa: E402
from dualvit.serve.server import Running, listen, protocol_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "green", "blue")


def write_colours(file, classes=COLOURS):
    """The mean of each channel, times 20, as logits."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "twenty"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])
    twenty = arrays.from_array(np.array(20, np.float32), "twenty")
    graph = helper.make_graph(nodes, "colours", [image], [logits], [twenty])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, Metadata("colours", "classify", tuple(classes), (32, 32)).to_json()
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def load():
    """The load script's functions, with slow clients that are soon known to be slow."""
    return runpy.run_path(str(ROOT / "benchmarks/load_clients.py"))


@contextlib.contextmanager
def served(sources, limits=None, key=None):
    """A server in a thread: its port, itself, and what runs it."""
    prepare([source.path for source in sources])
    server = Server(sources, limits or Limits(), key)
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(make_app(server), http=protocol_of(server), ws="none", log_level="error")
    running = Running(config, server)
    thread = threading.Thread(target=asyncio.run, args=(running.serve([listening]),))
    thread.start()
    try:
        yield listening.getsockname()[1], server, running
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(condition, seconds=300.0):
    """Wait for a condition; the seconds that it took. Libraries are imported for the first start."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = write_colours(tmp_path_factory.mktemp("served") / "colours.onnx")
    return Source("colours", str(file), "onnxruntime")


KEY = b"a key of this test".replace(b" ", b"-")


def picture(red, green, blue, size=(40, 30), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(source):
    """Pictures of colours that a seed draws, and what the predictor says of them."""
    predictor, rng = open_predictor(source.path, source.runtime, threads=1), np.random.default_rng(0)
    data = [picture(*rng.integers(0, 256, 3).tolist(), kind=kind) for kind in ("PNG", "JPEG") * 4]
    pictures = [open_rgb(io.BytesIO(one)) for one in data]
    answers = predictor.predict(pictures)
    assert answers == [predictor.predict([one])[0] for one in pictures]  # a batch is as good as each alone
    return list(zip(data, answers, strict=True))


@pytest.fixture(scope="module")
def serving(source):
    with served([source], Limits(timeout=1.5, max_bytes=200_000, max_pixels=1_000_000)) as found:
        _, server, _ = found
        assert not server.ready()  # no worker can be up yet
        until(server.ready)
        yield found


def asked(load, port, head, body=b""):
    status, answer = asyncio.run(load["ask"](port, head, body))
    return status, json.loads(answer)


def get(path, key=b""):
    shown = b"Authorization: Bearer " + key + b"\r\n" if key else b""
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: test\r\n" + shown + b"Connection: close\r\n\r\n"


def test_bad_requests_get_their_status_and_good_ones_beside_them_the_right_answer(serving, load, files):
    port = serving[0]
    ask, bad, outcome = load["ask"], load["bad"], load["Outcome"]()
    good_ones = load["Outcome"]()

    async def all_at_once():
        clients = load["bad_clients"](port, "colours", files[0][0])
        await asyncio.gather(
            *(bad(clients, kind, outcome) for kind in clients if kind not in ("too many bytes", "too many pixels")),
            *(load["good"](port, "colours", files, index, good_ones) for index in range(24)),
        )
        huge = b"x" * 200_001
        status, body = await ask(port, load["post"](load["address"]("colours"), len(huge)), huge)
        assert status == 413
        assert json.loads(body)["error"] == "the body has 200001 bytes, and the limit is 200000; shrink it"
        wide = picture(9, 9, 9, (1001, 1000))
        status, body = await ask(port, load["post"](load["address"]("colours"), len(wide)), wide)
        assert status == 422
        assert "1001000 pixels, and the limit is 1000000" in json.loads(body)["error"]

    asyncio.run(all_at_once())
    assert outcome.wrong == []
    assert good_ones.wrong == []
    assert good_ones.statuses == {200: 24}


def test_a_clean_run_after_clients_that_leave_is_right(serving, load, files):
    port, server, _ = serving
    left = asyncio.run(load["paced"](port, "colours", files, 1.0, 60, left=0.8))
    clean = asyncio.run(load["paced"](port, "colours", files, 0.5, 30))
    assert left.cancelled > 20
    assert left.wrong == clean.wrong == []
    assert set(clean.statuses) == {200}
    assert len(server.pools["colours"].queue) == 0


def test_a_dead_worker_is_seen_replaced_and_costs_no_request(serving, load, files):
    port, server, _ = serving
    pool = server.pools["colours"]
    process = pool.workers[0].process.process.pid
    seen = []

    def kill():
        os.kill(process, signal.SIGKILL)
        seen.append(until(lambda: not server.ready(), 2))

    out = asyncio.run(load["paced"](port, "colours", files, 1.0, 30, events=[(0.3, kill)]))
    until(server.ready)
    assert seen[0] < 2
    assert out.wrong == []
    assert set(out.statuses) <= {200, 503}  # 503 only if the machine takes over 1.5 s for a new worker
    assert pool.workers[0].process.process.pid != process
    status, health = asked(load, port, get("/health"))
    assert (status, health["ready"]) == (200, True)


def test_a_worker_that_hangs_is_killed_and_its_request_goes_to_the_next(serving, load, files):
    port, server, _ = serving
    until(server.ready)
    process = server.pools["colours"].workers[0].process.process.pid
    os.kill(process, signal.SIGSTOP)
    data, expected = files[0]
    status, answer = asked(load, port, load["post"](load["address"]("colours"), len(data)), data)
    assert status == 503 or (status == 200 and not load["differs"](answer, expected))
    until(lambda: server.ready() and server.pools["colours"].workers[0].process.process.pid != process)
    status, answer = asked(load, port, load["post"](load["address"]("colours"), len(data)), data)
    assert status == 200
    assert load["differs"](answer, expected) == ""


def test_metrics_and_openapi_say_what_there_is(serving, load):
    port = serving[0]
    status, page = asyncio.run(load["ask"](port, get("/metrics")))
    assert status == 200
    assert b'dualvit_workers_up{model="colours"} 1.0' in page
    assert b'dualvit_requests_total{model="colours",status="200"}' in page
    status, about = asked(load, port, get("/openapi.json"))
    assert {"/health", "/v1/models", "/v1/models/{name}/predict"} <= set(about["paths"])
    assert {"408", "413", "422", "429", "503"} <= set(about["paths"]["/v1/models/{name}/predict"]["post"]["responses"])
    status, models = asked(load, port, get("/v1/models"))
    assert models["models"][0]["classes"] == list(COLOURS)


def test_a_new_version_takes_over_without_a_lost_request_and_the_end_loses_none(load, files, tmp_path):
    file = write_colours(tmp_path / "colours.onnx")
    other = write_colours(tmp_path / "other.onnx", ("one", "two", "three"))
    with served([Source("colours", str(file), "onnxruntime")], key=KEY) as (port, server, running):
        until(server.ready)
        pool = server.pools["colours"]
        assert asked(load, port, get("/v1/models"))[0] == 401
        assert asked(load, port, get("/v1/models", KEY + b"x"))[0] == 401
        assert asked(load, port, get("/v1/models", KEY))[0] == 200
        assert asked(load, port, get("/health"))[0] == 200
        shown = f"Authorization: Bearer {KEY.decode()}\r\n"
        reload = load["post"]("/v1/models/colours/reload", 0, more=shown)

        file.write_bytes(b"no model")
        status, answer = asked(load, port, reload)
        assert status == 409
        assert answer["error"].endswith("the old version serves on")
        assert pool.generation == 1

        shutil.copy(other, file)
        over, names, statuses = threading.Event(), [], []

        def client():
            data = files[0][0]
            while not over.is_set():
                status, answer = asked(
                    load, port, load["post"](load["address"]("colours"), len(data), more=shown), data
                )
                statuses.append(status)
                names.append(answer.get("classes", [{}])[0].get("name"))

        thread = threading.Thread(target=client)
        thread.start()
        status, answer = asked(load, port, reload)
        until(lambda: names and names[-1] in ("one", "two", "three"))
        over.set()
        thread.join()
        assert (status, answer["generation"]) == (200, 2)
        assert set(statuses) == {200}
        assert names[0] in COLOURS

        server.key = None  # the script's clients show none
        expected = open_predictor(file, "onnxruntime", threads=1)
        new = [(data, expected.predict([open_rgb(io.BytesIO(data))])[0]) for data, _ in files]
        before = accepted(server)
        ends = asyncio.run(at_the_end(load, port, new, lambda: running.handle_exit(signal.SIGTERM, None)))
    assert set(ends) <= {"answered", "refused", "reset"}
    assert ends["answered"] > 8
    assert accepted(server) - before == ends["answered"]  # so that one that was reset was never accepted


def accepted(server):
    return sum(sample.value for family in server.metrics.connections.collect() for sample in family.samples[:1])


async def at_the_end(load, port, files, stop):
    """The ends of the script's clients, and of one that had sent half of a head, and of one that had sent nothing."""
    data, expected = files[0]
    head = load["post"](load["address"]("colours"), len(data))
    half, silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    half[1].write(head[:20])
    ends = await load["ended"](port, "colours", files, stop)
    half[1].write(head[20:] + data)
    silent[1].write(head + data)
    for reader, _ in (half, silent):
        status, body = await asyncio.wait_for(load["answer_of"](reader), 10)
        assert status == 200
        assert not load["differs"](json.loads(body), expected)
        ends["answered"] += 1
    return ends


@pytest.mark.parametrize("turns", range(6))
def test_requests_that_come_in_while_the_loop_is_busy_are_answered_though_it_ends_soon_after(
    load, files, source, turns
):
    """Turns of the loop later, connections wait to be accepted (0, 1), are set up (2, 3), or were not read (4, 5)."""
    made, seen = threading.Event(), []
    data, expected = files[0]

    async def clients():
        head = load["post"](load["address"]("colours"), len(data))
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in pairs:
            writer.write(head + data)
        made.set()
        answers = (asyncio.wait_for(load["answer_of"](reader), 10) for reader, _ in pairs)
        return await asyncio.gather(*answers, return_exceptions=True)

    async def on_tick(counter):
        if not seen:
            seen.append("busy")
            assert made.wait(20)
            for _ in range(turns):
                await asyncio.sleep(0)
        return True

    with served([source]) as (port, server, running):
        until(server.ready)
        running.on_tick = on_tick
        until(lambda: seen)
        answers = asyncio.run(clients())
    assert [answer for answer in answers if isinstance(answer, BaseException)] == []
    assert [status for status, _ in answers] == [200] * 8
    assert not any(load["differs"](json.loads(body), expected) for _, body in answers)


def test_many_requests_are_told_to_come_back(load, files, source):
    with served([source], Limits(waiting=2)) as (port, server, _):  # no worker is up yet, so that all wait

        async def crowd():
            data = files[0][0]
            head = load["post"](load["address"]("colours"), len(data))
            return await asyncio.gather(*(load["ask"](port, head, data) for _ in range(6)))

        answers = asyncio.run(crowd())
        assert sorted(status for status, _ in answers) == [200, 200, 429, 429, 429, 429]
        assert server.held.total == 0


def test_names_and_keys(tmp_path, source):
    assert named([source.path]) == {"colours": source.path}
    with pytest.raises(InputError, match="two models are called colours"):
        named([source.path, f"colours={source.path}"])
    with pytest.raises(InputError, match="NAME=PATH"):
        named([f"a/b={source.path}"])
    with pytest.raises(MissingFileError, match="no model at"):
        named([str(tmp_path / "none.onnx")])
    short = tmp_path / "key"
    short.write_text("short\n")
    with pytest.raises(InputError, match="has 5 characters"):
        read_key(short)
    with pytest.raises(MissingFileError):
        read_key(Path(tmp_path / "none"))
    with pytest.raises(InputError, match="max_bytes is 0"):
        Limits(max_bytes=0)
