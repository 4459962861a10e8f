"""Clients of a server under load: good ones that compare each answer, bad ones that know which status is right.

`benchmarks/load.py` starts a server for them; `tests/serve/test_serve.py` asks a small one.
"""

import asyncio
import io
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from PIL import Image

SCORE, PIXELS = 2e-3, 0.5  # how far an answer may be from the predictor's own: batches round otherwise
TIMEOUT = 8.0  # seconds, the server's: slow clients are soon known to be slow
MAX_BYTES, MAX_PIXELS = 2_000_000, 20_000_000
CONFIDENCE = 0.25
LATE = 0.25  # seconds that a request may be sent after its time
CLIENTS = 16  # that wait for each answer: twice the server's batch, so that a full one waits while one is computed
Good = Sequence[tuple[bytes, dict[str, Any]]]  # files, and what the predictor says


@dataclass
class Outcome:
    """What a phase came to.

    Attributes:
        seconds: Of each good request that was answered.
        statuses: Of good requests; 0 is a broken connection.
        wrong: Answers that are not the predictor's.
        bad: Of bad requests, by kind and status.
        cancelled: Clients that left.
        unsent: Requests that this process was too late to send.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    unsent: int = 0

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
            "unsent": self.unsent,
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


async def closed(port: int, name: str, files: Good, seconds: float, clients: int = CLIENTS) -> Outcome:
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
    port: int, name: str, files: Good, seconds: float, rate: float, left: float = 0.0, bad_every: int = 0,
    events: Sequence[tuple[float, Callable[[], Any]]] = (),
) -> Outcome:  # fmt: skip
    """Ask at even distances, whether or not earlier requests were answered.

    What this process was too late to send is left out, not sent in a burst, and counted.

    Args:
        port: Of the server.
        name: Of the model.
        files: To ask about.
        seconds: How long.
        rate: Requests per second.
        left: Share of the clients that leave.
        bad_every: Send a bad request besides, after each so many; none if 0.
        events: Seconds from the beginning, and what is done then.
    """
    out, rng, start = Outcome(), random.Random(0), time.monotonic()
    clients = bad_clients(port, name, files[0][0])
    kinds, pending, slot = cycle(clients), sorted(events, key=lambda event: event[0]), 0
    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic()) < start + seconds:
            while pending and now >= start + pending[0][0]:
                group.create_task(asyncio.to_thread(pending.pop(0)[1]))
            if rng.random() < left:
                group.create_task(leave(port, name, files, slot, out, rng.uniform(0, 0.02)))
            else:
                group.create_task(good(port, name, files, slot, out))
            if bad_every and slot % bad_every == 0:
                group.create_task(bad(clients, next(kinds), out))
            slot += 1
            missed = int((time.monotonic() - start) * rate - slot)
            if missed > LATE * rate:
                out.unsent, slot = out.unsent + missed, slot + missed
            await asyncio.sleep(max(0.0, start + slot / rate - time.monotonic()))
    return out


async def ended(port: int, name: str, files: Good, stop: Callable[[], Any], clients: int = CLIENTS) -> Counter[str]:
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
