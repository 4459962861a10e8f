"""A worker: a process that opens a model, decodes pictures and predicts, until its connection ends.

A decoder or a runtime that crashes takes this process with it, and no other.
"""

import contextlib
import gc
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from dualvit.data.images import MAX_PIXELS, UnreadableError, open_rgb
from dualvit.deploy.digest import digest_of
from dualvit.deploy.predictor import Predictor, open_predictor
from dualvit.errors import DualViTError, line_of
from dualvit.files import at_limit
from dualvit.serve.limits import Source

Reply = tuple[int, bytes]  # HTTP's status, and JSON


@dataclass(frozen=True)
class Order:
    """A picture that a worker is asked about.

    Attributes:
        data: The file.
        confidence: Objects with a lower score are left out.
    """

    data: bytes
    confidence: float


def work(connection: Connection, source: Source, max_pixels: int) -> None:
    """Answer lists of orders with lists of replies, and None with None; the first message says what was opened."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server ends its workers once they have answered
        signal.signal(number, signal.SIG_IGN)
    with contextlib.redirect_stdout(sys.stderr):
        predictor, said = opened(source, max_pixels)
        gc.freeze()  # what was imported stays: to look through it again takes a fifth of a second, in some request
        connection.send(said)
        with contextlib.suppress(EOFError, OSError):  # the server is gone
            while predictor is not None:
                orders = connection.recv()
                connection.send(None if orders is None else replies(predictor, orders))


def opened(source: Source, max_pixels: int) -> tuple[Predictor | None, dict[str, Any]]:
    """Open a model; return it with what is said of it, or None with why it does not open."""
    os.environ[MAX_PIXELS] = str(max_pixels)
    Image.init()  # else done at the first file of no known kind: what is slow at first is done before anyone waits
    try:
        version = digest_of(source.path)[:12]
        predictor = open_predictor(source.path, source.runtime, threads=source.threads)
        predictor.batch = source.batch
        predictor.predict([Image.new("RGB", (64, 64))])
    except Exception as error:
        return None, {"fault": line_of(error, 300)}
    return predictor, {"about": described(predictor, version)}


def described(predictor: Predictor, version: str) -> dict[str, Any]:
    """Return what a server says of a model."""
    return {
        "task": predictor.task,
        "classes": list(predictor.classes),
        "runtime": predictor.runtime,
        "precision": predictor.precision,
        "version": version,
    }


def replies(predictor: Predictor, orders: Sequence[Order]) -> list[Reply]:
    """Answer each order as if it were alone: what is wrong with one is said to that one."""
    found: list[Reply | None] = [None] * len(orders)
    pictures: dict[int, Image.Image] = {}
    for index, order in enumerate(orders):
        try:
            pictures[index] = open_rgb(io.BytesIO(order.data), "of the request")
        except Exception as error:
            found[index] = fault(error)
    for confidence in {orders[index].confidence for index in pictures}:
        numbers = [index for index in pictures if orders[index].confidence == confidence]
        for index, reply in zip(numbers, _predicted(predictor, pictures, numbers, confidence), strict=True):
            found[index] = reply
    return [reply for reply in found if reply is not None]


def _predicted(
    predictor: Predictor, pictures: dict[int, Image.Image], numbers: Sequence[int], confidence: float
) -> list[Reply]:
    try:
        answers = predictor.predict([pictures[index] for index in numbers], confidence)
    except Exception as error:
        if len(numbers) == 1:
            return [fault(error)]
        return [_predicted(predictor, pictures, [index], confidence)[0] for index in numbers]
    sizes = [pictures[index].size for index in numbers]
    return [
        (200, json.dumps({"width": width, "height": height, **answer}, allow_nan=False).encode())
        for (width, height), answer in zip(sizes, answers, strict=True)
    ]


def fault(error: Exception) -> Reply:
    """Return the reply to an order that failed: 422 if the picture is at fault, 503 if memory is, else 500."""
    busy = isinstance(error, MemoryError) or (isinstance(error, OSError) and at_limit(error))
    status = 503 if busy else 422 if isinstance(error, DualViTError | ValueError) else 500
    line = line_of(error, 300)
    if isinstance(error, UnreadableError):  # its remedy is for the owner of a data set
        line = f"{line.rpartition(';')[0] or line}; send another one"
    if status == 500:
        print(f"dualvit serve: {type(error).__name__}: {line}", file=sys.stderr, flush=True)
        line = "the model failed on this picture; the server's log says why"
    return status, json.dumps({"error": line}).encode()
