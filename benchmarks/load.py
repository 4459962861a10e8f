"""Load on a server of its own: good and bad requests, clients that leave, killed workers, swaps, and an end.

    python benchmarks/load.py best.onnx PICTURES --minutes 30 --json docs/results/serve/load.json

The server works on core 0, this script on core 1, both over the loopback. First it finds the peak: answers per second
to eight clients that wait for each answer. Then these minutes follow one another until time is up, at 80 % of it:

    mixed       good requests at even distances, and one of each kind of bad request per second; a worker is killed
    cancelled   four of five clients leave before their answer
    clean       good requests alone
    swapped     good requests alone, and the version is swapped twice

Every answer is compared with the predictor's own in this process: labels, and scores and boxes to the tolerances
below. In the end SIGTERM comes while requests are on their way: each that was accepted must be answered.
The exit status is 1 if an answer is wrong, a bad request gets a status of another kind, or the server ends by itself.
"""

import argparse
import asyncio
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

SCORE, PIXELS = 2e-3, 0.5  # how far an answer may be from the predictor's own: batches round otherwise
TIMEOUT = 8.0  # seconds, the server's: slow clients are soon known to be slow
MAX_BYTES, MAX_PIXELS = 2_000_000, 20_000_000
EDGE = 0.01  # pictures with a score so near to the confidence are not asked about
CONFIDENCE = 0.25
Good = Sequence[tuple[bytes, dict[str, Any]]]  # files, and what the predictor says


@dataclass
class Outcome:
    """What a phase came to.

    Attributes:
        seconds: Of each good request that was answered.
        statuses: Of good requests; 0 is a broken connection.
        wrong: Answers that are not the predictor's.
        bad: Of bad requests, by kind and status.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0

    def row(self) -> dict[str, Any]:
        """Return it in figures."""
        times = sorted(self.seconds)
        share = {f"p{percent}_ms": round(1000 * quantile(times, percent / 100), 2) for percent in (50, 95, 99)}
        return {
            **share,
            "answered": len(times),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "wrong": len(self.wrong),
            "cancelled": self.cancelled,
            "bad": dict(sorted(self.bad.items())),
        }


def quantile(times: Sequence[float], share: float) -> float:
    """Return the value below which a share of sorted values lies; NaN of none."""
    return times[min(int(share * len(times)), len(times) - 1)] if times else float("nan")


# ---- clients


async def ask(port: int, head: bytes, body: bytes = b"", wait: float = 5 * TIMEOUT) -> tuple[int, bytes]:
    """Send a request over a connection of its own and return status and body; status 0 of a broken connection."""
    writer = None
    try:
        async with asyncio.timeout(wait):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            return await answer_of(reader)
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        return 0, repr(error).encode()
    finally:
        if writer is not None:
            writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read an answer; without a stated length, until the connection ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return status, await (reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else reader.read())


def post(path: str, length: int, kind: str = "image/jpeg", more: str = "") -> bytes:
    """Return the head of a request."""
    lines = f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}"
    return f"{lines}Connection: close\r\n\r\n".encode()


def address(name: str) -> str:
    """Return where a model predicts."""
    return f"/v1/models/{name}/predict?confidence={CONFIDENCE}"


async def good(port: int, name: str, files: Good, index: int, out: Outcome) -> None:
    """Ask about a picture, and compare the answer."""
    data, expected = files[index % len(files)]
    start = time.perf_counter()
    status, body = await ask(port, post(address(name), len(data)), data)
    out.statuses[status] += 1
    if not status:
        out.bad[f"a broken connection: {body.decode()}"] += 1
    if status == 200:
        out.seconds.append(time.perf_counter() - start)
        if fault := differs(json.loads(body), expected):
            out.wrong.append(fault)


async def leave(port: int, name: str, files: Good, index: int, out: Outcome, after: float) -> None:
    """Ask, and go before the answer can be there."""
    data = files[index % len(files)][0]
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(address(name), len(data)) + data)
        await writer.drain()
        await asyncio.sleep(after)
        writer.transport.abort()
        out.cancelled += 1
    except OSError as error:
        out.bad[f"a client that leaves: {type(error).__name__}"] += 1


def differs(answer: Any, expected: Any) -> str:
    """Return how an answer differs from the expected one; "" if it does not.

    Example:
        >>> differs({"score": 0.5}, {"score": 0.5001}), differs({"score": 0.5}, {"score": 0.9})
        ('', 'score: 0.5 in the place of 0.9')
    """
    if isinstance(expected, dict) and isinstance(answer, dict) and answer.keys() >= expected.keys():
        for key, value in expected.items():
            if key == "box" and len(answer[key]) == 4:
                if max(abs(one - other) for one, other in zip(answer[key], value, strict=True)) > PIXELS:
                    return f"box: {answer[key]} in the place of {value}"
            elif key in ("score", "share"):
                if abs(answer[key] - value) > SCORE:
                    return f"{key}: {answer[key]} in the place of {value}"
            elif key != "mask" and (fault := differs(answer[key], value)):
                return fault
        return ""
    if isinstance(expected, list) and isinstance(answer, list) and len(expected) == len(answer):
        return next(filter(None, map(differs, answer, expected)), "")
    return "" if answer == expected else f"{str(answer)[:80]} in the place of {str(expected)[:80]}"


# ---- bad clients: what each does, and the statuses that are right


def bomb() -> bytes:
    """Return a small PNG that says it has 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (20000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


async def drip(port: int, name: str, data: bytes) -> tuple[int, bytes]:
    """Send a body a byte at a time, until the server says something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(post(address(name), len(data)))
        answer = asyncio.create_task(answer_of(reader))
        for first in range(len(data)):
            writer.write(data[first : first + 1])
            if (await asyncio.wait({answer}, timeout=0.1))[0]:
                break
        return await asyncio.wait_for(answer, TIMEOUT)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        return 0, b""
    finally:
        writer.close()


async def half(port: int, name: str, data: bytes) -> tuple[int, bytes]:
    """Send half of a body and go."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(address(name), len(data)) + data[: len(data) // 2])
    await writer.drain()
    writer.transport.abort()
    return 0, b""


async def headless(port: int) -> tuple[int, bytes]:
    """Send the beginning of a head, and wait for the server to end it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/models HTTP/1.1\r\nHost: lo")
    try:
        rest = await asyncio.wait_for(reader.read(), 3 * TIMEOUT)
        return (0 if not rest else int(rest.split(b" ", 2)[1])), rest
    except (OSError, TimeoutError):
        return -1, b""
    finally:
        writer.close()


def bad_clients(port: int, name: str, data: bytes) -> Mapping[str, tuple[Callable[[], Awaitable[Any]], set[int]]]:
    """Return each kind of bad request: how it is made, and the statuses that are right for it."""
    path, huge = address(name), b"\xff" * (MAX_BYTES + 1)

    def of(body: bytes, kind: str = "image/jpeg", where: str = path) -> Callable[[], Awaitable[Any]]:
        return lambda: ask(port, post(where, len(body), kind), body)

    form = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n"
    busy = {429, 503}
    return {
        "a text": (of(b"hello", "text/plain"), {415}),
        "a text that says it is a picture": (of(b"hello"), {422} | busy),
        "half of a file": (of(data[: len(data) // 2]), {422} | busy),
        "no body": (of(b""), {422} | busy),
        "too many bytes": (of(huge), {413}),
        "too many pixels": (of(bomb(), "image/png"), {422} | busy),
        "a long thin picture": (of(thin(), "image/png"), {200, 422} | busy),
        "another model": (of(data, where="/v1/models/none/predict"), {404}),
        "a wrong confidence": (of(data, where=path + "1e9"), {422}),
        "a form without a file": (of(form, "multipart/form-data; boundary=x"), {422}),
        "a form that is cut": (of(form[:20], "multipart/form-data; boundary=x"), {400, 422}),
        "another method": (lambda: ask(port, f"PUT {path} HTTP/1.1\r\nHost: load\r\n\r\n".encode()), {405}),
        "no HTTP": (lambda: ask(port, b"\x16\x03\x01\x00\xa5\x01\r\n\r\n"), {400, 0}),
        "a slow sender": (lambda: drip(port, name, data), {408}),
        "a client that goes": (lambda: half(port, name, data), {0}),
        "a head that does not end": (lambda: headless(port), {0, 400, 408}),
    }


def thin() -> bytes:
    """Return a picture of 9000x3 pixels as a PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (9000, 3)).save(buffer, "PNG")
    return buffer.getvalue()


async def bad(clients: Mapping[str, Any], kind: str, out: Outcome) -> None:
    """Send one bad request, and note its status."""
    make, right = clients[kind]
    status, body = await make()
    out.bad[f"{kind}: {status or 'closed'}"] += 1
    if status not in right:
        out.wrong.append(f"{kind} got {status}: {body[:200]!r}")
    elif status >= 400 and status not in (400,) and "error" not in json.loads(body):
        out.wrong.append(f"{kind} got {status} without a line")


# ---- phases


async def closed(port: int, name: str, files: Good, seconds: float, clients: int = 8) -> Outcome:
    """Let so many clients ask, each again as soon as it is answered."""
    out, end = Outcome(), time.monotonic() + seconds

    async def client(first: int) -> None:
        index = first
        while time.monotonic() < end:
            await good(port, name, files, index, out)
            index += clients

    await asyncio.gather(*map(client, range(clients)))
    return out


async def paced(
    port: int, name: str, files: Good, seconds: float, rate: float, left: float = 0.0, bad_ones: bool = False,
    events: Sequence[tuple[float, Callable[[], Any]]] = (),
) -> Outcome:  # fmt: skip
    """Ask at even distances, whether or not earlier requests were answered.

    Args:
        port: Of the server.
        name: Of the model.
        files: To ask about.
        seconds: How long.
        rate: Requests per second.
        left: Share of the clients that leave.
        bad_ones: Send a bad request of each kind per second besides.
        events: Seconds from the beginning, and what is done then.
    """
    out, start, tasks, rng = Outcome(), time.monotonic(), set[asyncio.Task[Any]](), random.Random(0)
    clients = bad_clients(port, name, files[0][0])
    kinds, due, pending = cycle(clients), start, sorted(events, key=lambda event: event[0])
    index = 0
    while (now := time.monotonic()) < start + seconds:
        while pending and now >= start + pending[0][0]:
            tasks.add(asyncio.create_task(asyncio.to_thread(pending.pop(0)[1])))
        go = leave(port, name, files, index, out, rng.uniform(0, 0.02)) if rng.random() < left else (
            good(port, name, files, index, out)
        )  # fmt: skip
        tasks.add(asyncio.create_task(go))
        if bad_ones and now >= due:
            tasks.add(asyncio.create_task(bad(clients, next(kinds), out)))
            due = now + 1 / len(clients)
        index += 1
        tasks = {task for task in tasks if not task.done() or task.result()}
        await asyncio.sleep(max(0.0, start + index / rate - time.monotonic()))
    await asyncio.gather(*tasks)
    return out


async def ended(port: int, name: str, files: Good, stop: Callable[[], Any], clients: int = 8) -> Counter[str]:
    """Ask while the server is told to end; return how often a connection was answered, refused, reset, or lost.

    One is reset that breaks before a byte of an answer: the server's count of connections says if it was accepted.
    """
    counts: Counter[str] = Counter()
    over = asyncio.Event()

    async def client(first: int) -> None:
        index = first
        while not over.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                counts["refused"] += 1
                over.set()
                return
            data, expected = files[index % len(files)]
            try:
                writer.write(post(address(name), len(data)) + data)
                status, body = await asyncio.wait_for(answer_of(reader), 30)
                right = status == 200 and not differs(json.loads(body), expected)
                counts["answered" if right else f"status {status}"] += 1
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                reset = isinstance(error, ConnectionResetError | BrokenPipeError)
                counts["reset" if reset else "lost"] += 1
            finally:
                writer.close()
            index += 1

    tasks = [asyncio.create_task(client(first)) for first in range(clients)]
    await asyncio.sleep(0.5)
    stop()
    await asyncio.gather(*tasks)
    return counts


# ---- the server


class Serving:
    """A server in a process of its own, on one core."""

    def __init__(self, model: Path, runtime: str, log: Path) -> None:
        command = [
            sys.executable, "-m", "dualvit", "serve", f"model={model}", "--port", "0", "--runtime", runtime,
            "--timeout", str(TIMEOUT), "--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS), "--threads", "1",
        ]  # fmt: skip
        self.log = log
        self.started = time.monotonic()
        with log.open("w") as handle:
            self.process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=handle, stderr=handle)
        self.memory: list[tuple[float, float]] = []

    def wait(self, seconds: float = 300.0) -> int:
        """Wait until it is up; return its port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            lines = [line for line in self.log.read_text().splitlines() if "http://" in line]
            if lines:
                return int(lines[0].split(":")[-1].split("/")[0])
            time.sleep(0.2)
        raise SystemExit(f"the server did not come up:\n{self.log.read_text()[-2000:]}")

    def processes(self) -> list[psutil.Process]:
        """Return it and all processes below it."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Return the workers: what the forking process has below it."""
        root = psutil.Process(self.process.pid)
        return [worker for child in root.children() for worker in child.children()]

    def kill_worker(self) -> None:
        """Kill a worker."""
        for worker in self.workers()[:1]:
            worker.kill()

    def swap(self) -> None:
        """Let it open its model anew."""
        self.process.send_signal(signal.SIGHUP)

    def measure(self) -> None:
        """Note the memory of all processes: what each holds alone, and its part of what they share."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.memory.append((time.monotonic() - self.started, total / 1e6))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a line through points, per minute."""
    if len(points) < 3:
        return float("nan")
    return 60 * statistics.linear_regression(*zip(*points, strict=True)).slope


def answers_of(model: Path, runtime: str, folder: Path, count: int) -> Good:
    """Return pictures and what the predictor says of them, without those whose answer hangs by a hair."""
    from dualvit.data.images import open_rgb, pictures_in
    from dualvit.deploy.predictor import open_predictor

    predictor = open_predictor(model, runtime, threads=1)
    found: list[tuple[bytes, dict[str, Any]]] = []
    for file in pictures_in(folder):
        data = file.read_bytes()
        if len(data) > MAX_BYTES or len(found) == count:
            continue
        picture = open_rgb(file)
        low, high = (predictor.predict([picture], CONFIDENCE + edge)[0] for edge in (-EDGE, EDGE))
        if len(low.get("objects", ())) == len(high.get("objects", ())):
            found.append((data, {"width": picture.width, "height": picture.height, **high}))
    return found


def health_seconds(serving: Serving, port: int) -> tuple[float, float]:
    """Kill a worker; return the seconds until health is false, and until it is true again."""
    serving.kill_worker()
    start, false = time.monotonic(), None
    while time.monotonic() < start + 120:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            if false is not None:
                return false, time.monotonic() - start
        except urllib.error.HTTPError:
            false = time.monotonic() - start if false is None else false
        time.sleep(0.005)
    return false or float("inf"), float("inf")


async def measured(serving: Serving, port: int, files: Good, seconds: float, part: float) -> dict[str, Any]:
    """Go through the phases until time is up, and then end the server."""
    end = time.monotonic() + seconds

    async def memory() -> None:
        while True:
            await asyncio.to_thread(serving.measure)
            await asyncio.sleep(min(5, part / 4))

    await closed(port, "model", files, part / 6)
    peak = await closed(port, "model", files, part / 3)
    rate = 0.8 * len(peak.seconds) / (part / 3)
    watching = asyncio.create_task(memory())
    rows: list[dict[str, Any]] = [{"phase": "peak", **peak.row()}]
    faults = [*peak.wrong]
    plans: dict[str, dict[str, Any]] = {
        "mixed": {"bad_ones": True, "events": [(part / 2, serving.kill_worker)]},
        "cancelled": {"left": 0.8},
        "clean": {},
        "swapped": {"events": [(part / 4, serving.swap), (0.6 * part, serving.swap)]},
    }
    for phase in cycle(plans):
        out = await paced(port, "model", files, part, rate, **plans[phase])
        rows.append({"phase": phase, **out.row()})
        faults += [f"{phase}: {fault}" for fault in out.wrong]
        print(json.dumps(rows[-1]), flush=True)
        if serving.process.poll() is not None:
            faults.append("the server ended by itself")
        if time.monotonic() > end or (faults and serving.process.poll() is not None):
            break
    watching.cancel()
    false, true = await asyncio.to_thread(health_seconds, serving, port)
    ends = await ended(port, "model", files, serving.process.terminate)
    status = await asyncio.to_thread(serving.process.wait, 60)
    steady = serving.memory[len(serving.memory) // 4 :]
    return {
        "peak_per_second": round(len(peak.seconds) / (part / 3), 2), "rate_per_second": round(rate, 2),
        "minutes": round((time.monotonic() - end + seconds) / 60, 2), "faults": faults,
        "memory_mb": [round(steady[0][1], 1), round(steady[-1][1], 1)] if steady else [],
        "memory_mb_per_minute": round(slope(steady), 3),
        "health_false_after_s": round(false, 3), "health_true_after_s": round(true, 3),
        "end": dict(ends), "exit_status": status, "phases": rows,
        "together": {phase: together(rows, phase) for phase in plans},
    }  # fmt: skip


def together(rows: Sequence[dict[str, Any]], phase: str) -> dict[str, Any]:
    """Return the median and the largest of a phase's quantiles, over its minutes."""
    own = [row for row in rows if row["phase"] == phase]
    if not own:
        return {}
    figures = {key: [row[key] for row in own] for key in ("p50_ms", "p99_ms")}
    ratios = [row["p99_ms"] / row["p50_ms"] for row in own]
    return {
        **{key: round(statistics.median(values), 2) for key, values in figures.items()},
        "p99_of_p50": round(statistics.median(ratios), 2), "worst_p99_of_p50": round(max(ratios), 2),
        "answered": sum(row["answered"] for row in own), "minutes": len(own),
    }  # fmt: skip


def main() -> None:
    """Start a server, load it, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--part", type=float, default=60, help="seconds of a phase")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--json", type=Path, default=Path("runs/load/load.json"))
    options = parser.parse_args()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    serving = Serving(options.model, options.runtime, options.json.with_suffix(".server.log"))
    try:
        files = answers_of(options.model, options.runtime, options.pictures, 24)
        port = serving.wait()
        os.sched_setaffinity(0, {1})
        found = asyncio.run(measured(serving, port, files, 60 * options.minutes, options.part))
    finally:
        if serving.process.poll() is None:
            serving.process.kill()
    from dualvit.provenance import environment

    setting = {"runtime": options.runtime, "pictures": len(files), "part_s": options.part}
    options.json.write_text(json.dumps({**setting, **found, "environment": environment(False)}, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key not in ("phases",)}, indent=1))
    lost = found["end"].get("lost", 0) or any(key.startswith("status") for key in found["end"])
    sys.exit(1 if found["faults"] or lost or found["exit_status"] else 0)


if __name__ == "__main__":
    main()
