"""The picture of a request: its body, read within limits of bytes and time, bare or in a form."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dualvit.serve.limits import Limits, RefusedError

BARE = ("application/octet-stream",)  # besides image/...
DRAINED = 2.0  # seconds in which the rest of a refused body is read, so that its sender can read why


class Held:
    """How many bytes of bodies are in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.total = most, 0

    def add(self, count: int) -> None:
        """Count more bytes.

        Raises:
            RefusedError: there are too many.
        """
        if self.total + count > self.most:
            raise RefusedError(503, "the server holds as many pictures as it may; come back", close=True)
        self.total += count

    @asynccontextmanager
    async def counting(self) -> AsyncIterator["Share"]:
        """Count what one request holds, until it ends."""
        share = Share(self)
        try:
            yield share
        finally:
            self.total -= share.count


class Share:
    """What one request holds of the memory for bodies."""

    def __init__(self, held: Held) -> None:
        self.held, self.count = held, 0

    def add(self, count: int) -> None:
        """Count more bytes, as `Held.add`."""
        self.held.add(count)
        self.count += count


async def picture_of(request: Request, limits: Limits, share: Share) -> bytes:
    """Return the file of the picture that a request brings.

    Raises:
        RefusedError: it brings none, in another form, too slowly, or too many bytes.
        ClientDisconnect: the client is gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and kind and not kind.startswith("image/") and kind not in BARE:
        raise RefusedError(415, f"the body is {kind[:60]}; send a picture, as image/jpeg or as a file of a form", True)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        if "expect" not in request.headers:  # who asks first has not begun to send
            await _drain(request)
        raise RefusedError(413, f"the body has {stated} bytes, and the limit is {limits.max_bytes}; shrink it", True)
    try:
        async with asyncio.timeout(limits.timeout):
            stream = _limited(request, limits, share)
            data = await _file_of_form(request, stream) if form else b"".join([part async for part in stream])
    except TimeoutError:
        line = f"the body did not arrive within {limits.timeout:g} s; send a smaller picture, or send it faster"
        raise RefusedError(408, line, close=True) from None
    except RefusedError as refused:
        if refused.status == 413:
            await _drain(request)
        raise
    if not data:
        raise RefusedError(422, "there is no picture in the body; send the bytes of its file")
    return data


async def _limited(request: Request, limits: Limits, share: Share) -> AsyncGenerator[bytes, None]:
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > limits.max_bytes:
            line = f"the body has more than {limits.max_bytes} bytes, which is the limit; shrink the picture"
            raise RefusedError(413, line, close=True)
        share.add(len(part))
        yield part


async def _file_of_form(request: Request, stream: AsyncGenerator[bytes, None]) -> bytes:
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=8, max_part_size=65536)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        why = getattr(error, "message", None) or "it cannot be read"
        raise RefusedError(400, f"the form is broken: {str(why)[:120]}; send one file in it", close=True) from None
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise RefusedError(422, f"the form has {len(files)} files; send one, such as -F image=@picture.jpg")
        return await files[0].read()
    finally:
        await form.close()


async def _drain(request: Request) -> None:
    """Read on for a moment: a client that still sends would see a broken connection in the place of the answer."""
    until = time.monotonic() + DRAINED
    try:
        async with asyncio.timeout(DRAINED):
            while time.monotonic() < until:
                message = await request.receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except (TimeoutError, ClientDisconnect):
        return
