"""The addresses of a server: predictions, models, health, metrics, and the swap of a version.

| address | answer |
|---|---|
| `POST /v1/models/NAME/predict?confidence=0.25` | what the model says of the picture in the body |
| `GET /v1/models` | the models, their tasks, classes, versions and workers |
| `POST /v1/models/NAME/reload` | the model's file is opened anew; only with a key |
| `GET /health` | 200 if every worker is up, else 503; without a key |
| `GET /metrics` | for Prometheus |
| `GET /openapi.json` | this table for programs |
"""

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dualvit.errors import DualViTError, line_of
from dualvit.serve.body import Held, picture_of
from dualvit.serve.limits import Limits, RefusedError, Source
from dualvit.serve.metrics import Metrics
from dualvit.serve.pool import Job, Pool
from dualvit.serve.process import Local, Start
from dualvit.serve.worker import Order

GONE = 499  # what is counted of a client that did not wait; it is never sent
WATCH = 0.2  # seconds between two looks at the workers
PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FORM: dict[str, Any] = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
REFUSALS = {
    400: "the form is broken", 401: "the key is missing or wrong", 404: "no such model", 408: "the body is late",
    413: "the body has too many bytes", 415: "the body is no picture", 422: "the picture cannot be decoded or used",
    429: "too many requests wait", 503: "no worker is up, the server is closing, or there was no answer in time",
}  # fmt: skip


class Server:
    """What the addresses share.

    Attributes:
        pools: A model each, by name.
        limits: Of requests.
        metrics: What is counted.
        closing: Whether the server ends, and takes no new connections for long.
    """

    def __init__(self, sources: list[Source], limits: Limits, key: bytes | None, begin: Start = Local) -> None:
        self.limits, self.key, self.metrics, self.closing = limits, key, Metrics(), False
        self.pools: Mapping[str, Pool] = {source.name: Pool(source, limits, self.metrics, begin) for source in sources}
        self.held = Held(limits.memory)
        for name, pool in self.pools.items():
            self.metrics.watch(name, lambda pool=pool: len(pool.queue), lambda pool=pool: _up(pool))  # type: ignore[misc]

    def ready(self) -> bool:
        """Whether every worker of every model is up."""
        return not self.closing and all(pool.ready() for pool in self.pools.values())

    def pool(self, name: str) -> Pool:
        """Return a model.

        Raises:
            RefusedError: there is none of this name.
        """
        if name not in self.pools:
            raise RefusedError(404, f"there is no model {name[:64]!r}; there are {', '.join(self.pools)}")
        return self.pools[name]

    def require_key(self, request: Request) -> None:
        """Let a request through that shows the key, in a time that tells nothing of it.

        Raises:
            RefusedError: it does not.
        """
        shown = request.headers.get("authorization", "").encode("latin-1")
        if self.key is not None and not hmac.compare_digest(shown, b"Bearer " + self.key):
            raise RefusedError(401, "the key is missing or wrong; send it as Authorization: Bearer KEY", close=True)

    async def watch(self) -> None:
        """Look at the workers again and again."""
        while True:
            for pool in self.pools.values():
                pool.watch()
            await asyncio.sleep(WATCH)


class Parting:
    """The application; while the server closes, each answer says that it is the connection's last."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self.server.closing:
                others = [(key, value) for key, value in message["headers"] if key != b"connection"]
                message = {**message, "headers": [*others, (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, sent)


def _up(pool: Pool) -> int:
    return sum(worker.is_up() for worker in pool.workers)


def make_app(server: Server) -> FastAPI:
    """Return the application; its workers start with it and end with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for pool in server.pools.values():
            pool.start()
        watching = asyncio.create_task(server.watch())
        yield
        await asyncio.gather(*(asyncio.to_thread(pool.close) for pool in server.pools.values()))
        watching.cancel()

    app = FastAPI(
        title="dualvit serve", version=version("dualvit"), lifespan=lifespan, docs_url=None, redoc_url=None,
        dependencies=None,
    )  # fmt: skip
    _add_errors(app)
    _add_addresses(app, server)
    app.add_middleware(Parting, server=server)
    return app


def _add_addresses(app: FastAPI, server: Server) -> None:
    keyed = [Depends(server.require_key)]
    refusals: dict[int | str, dict[str, Any]] = {status: {"description": line} for status, line in REFUSALS.items()}

    @app.get("/health", responses={503: {"description": "a worker is not up"}})
    async def health() -> Response:
        """Say whether every worker of every model is up."""
        ready = server.ready()
        up = {name: f"{_up(pool)} of {len(pool.workers)}" for name, pool in server.pools.items()}
        return _json({"ready": ready, "workers": up}, 200 if ready else 503)

    @app.get("/v1/models", dependencies=keyed)
    async def models() -> Response:
        """List the models."""
        return _json({"models": [pool.described() for pool in server.pools.values()]})

    @app.get("/metrics", dependencies=keyed)
    async def metrics() -> Response:
        """Give Prometheus what was counted."""
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4")

    body = {"requestBody": {"required": True, "content": {"image/*": PICTURE, "multipart/form-data": FORM}}}

    @app.post("/v1/models/{name}/predict", dependencies=keyed, responses=refusals, openapi_extra=body)
    async def predict(name: str, request: Request, confidence: Annotated[float, Query(ge=0, le=1)] = 0.25) -> Response:
        """Say what a model sees in the picture of the body."""
        pool = server.pool(name)
        status, start = 500, time.monotonic()
        try:
            response = await _predicted(server, pool, request, confidence)
            status = response.status_code
            if status == 200:
                server.metrics.seconds.labels(name).observe(time.monotonic() - start)
        except RefusedError as refused:
            status = refused.status
            raise
        except ClientDisconnect:
            response = Response(status_code=GONE)
            status = GONE
        finally:
            server.metrics.requests.labels(name, str(status)).inc()
        return response

    @app.post("/v1/models/{name}/reload", dependencies=keyed, responses={401: refusals[401], 404: refusals[404]})
    async def reload(name: str) -> Response:
        """Open the model's file anew, and let the new version take over."""
        pool = server.pool(name)
        if server.key is None:
            raise RefusedError(403, "reload needs a server with --key-file; send it SIGHUP in the place of this")
        try:
            await asyncio.to_thread(pool.swap)
        except DualViTError as error:
            raise RefusedError(409, f"{line_of(error, 300)}; the old version serves on") from None
        return _json(pool.described())


async def _predicted(server: Server, pool: Pool, request: Request, confidence: float) -> Response:
    """The reply of a worker to the picture in the body; a client that is gone costs no pass."""
    async with server.held.counting() as share:
        data = await picture_of(request, server.limits, share)
        job = pool.submit(Order(data, confidence), time.monotonic() + server.limits.timeout)
        try:
            status, content = await _reply(job, request)
        finally:
            job.leave()
    return Response(
        content, status, media_type="application/json", headers={"retry-after": "1"} if status == 503 else None
    )


async def _reply(job: Job, request: Request) -> tuple[int, bytes]:
    """Wait for the reply, the deadline, or the end of the connection, whichever comes first."""
    gone = asyncio.create_task(_disconnected(request))
    try:
        left = max(job.deadline - time.monotonic(), 0)
        both: set[asyncio.Future[Any]] = {job.reply, gone}
        await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if job.reply.done():
            return job.reply.result()
        if gone.done():
            raise ClientDisconnect
        raise RefusedError(503, "there was no answer in time; send a smaller picture, or come back")
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_errors(app: FastAPI) -> None:
    """One form for whatever is refused: `{"error": "one line"}`."""

    async def refused(request: Request, error: Any) -> Response:
        headers = {"connection": "close"} if error.close else {}
        if error.status in (429, 503):
            headers["retry-after"] = "1"
        return _json({"error": error.message}, error.status, headers)

    async def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        return _json({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    async def other(request: Request, error: Any) -> Response:
        return _json({"error": f"{request.url.path[:100]}: {error.detail}"}, error.status_code, error.headers)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, other)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers, media_type="application/json")
