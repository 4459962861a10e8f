"""A server that runs: uvicorn with limits on slow clients, an end without a lost request, and SIGHUP for a swap."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dualvit.errors import AccessError, StateError
from dualvit.serve.app import Server, make_app
from dualvit.serve.limits import Limits, Source
from dualvit.serve.metrics import Metrics
from dualvit.serve.process import Local, Start

DRAIN = 1.0  # seconds between the signal to end and the last new connection: balancers read /health meanwhile
LINGER = 1.0  # seconds that a connection without a request has left when the server listens no more
TURN = 0.01  # seconds in which the event loop sets up what it has accepted
CONNECTIONS = 512  # at once; the next one gets 503


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait forever for the head of a request, nor for a client that does not read."""

    seconds = 30.0
    metrics: Metrics | None = None
    late: Any = None
    ending = lingers = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        if self.metrics is not None:
            self.metrics.connections.inc()
        raw = transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # what is sent must be read in this time
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * self.seconds))
        self._wait(self.seconds)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head, if this is the beginning of one."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
            if self.ending:
                self.cycle.keep_alive = False
        elif self.lingers or self.late is None:
            self.lingers = False
            self._stop()
            self._wait(self.seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End after the answer; without a request, wait for one that is on its way. uvicorn would close at once."""
        begun = bool(self.conn.trailing_data[0])
        self.ending = True
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif not begun:  # a head that has begun keeps its own limit
            self.lingers = True
            self._stop()
            self._wait(LINGER)

    def _wait(self, seconds: float) -> None:
        self.late = self.loop.call_later(seconds, self.transport.close)

    def _stop(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


class Running(uvicorn.Server):
    """uvicorn that says it closes before it does, and swaps versions at SIGHUP."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self.server = server

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and take SIGHUP."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, self._swap))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has come, listen no more, and wait for all answers.

        uvicorn alone would reset what waits to be accepted, and drop what the event loop has not set up yet.
        """
        loop = asyncio.get_running_loop()
        for listening in sockets or []:
            loop.remove_reader(listening)
        await asyncio.sleep(TURN)
        last = [connection for listening in sockets or [] for connection in _accepted(listening)]
        for server in self.servers:
            server.close()
        for connection in last:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made

    def _swap(self) -> None:
        for name, pool in self.server.pools.items():
            try:
                pool.swap()
                say(f"{name}: version {pool.described().get('version')} serves")
            except StateError as error:
                say(f"{name}: {error}; the old version serves on")

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Close in a moment: new connections are served until then, and told to end. A second signal closes at once."""
        if self.server.closing:
            self.should_exit = True
            return
        self.server.closing = True
        threading.Timer(DRAIN, self._close).start()

    def _close(self) -> None:
        self.should_exit = True


def protocol_of(server: Server) -> type[PatientProtocol]:
    """Return the protocol with a server's limit of time and its counters."""
    return type("Protocol", (PatientProtocol,), {"seconds": server.limits.timeout, "metrics": server.metrics})


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept until nothing waits."""
    with contextlib.suppress(OSError):  # nothing waits, or there are too many open files
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            yield connection


def say(line: str) -> None:
    """Print a line to the log."""
    print(f"dualvit serve: {line}", file=sys.stderr, flush=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the port is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise AccessError(f"cannot listen at {host} port {port}: {error.strerror}; give another --port") from None
    listening.listen(1024)
    return listening


def run(
    sources: list[Source], limits: Limits, key: bytes | None, host: str, port: int, begin: Start = Local
) -> None:  # fmt: skip
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        OSError: the port is taken.
        RuntimeError: a model does not open; the message says why.
    """
    listening = listen(host, port)
    server = Server(sources, limits, key, begin)
    config = uvicorn.Config(
        make_app(server), http=protocol_of(server), ws="none", lifespan="on", log_level="error", access_log=False,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=5, server_header=False,
        timeout_graceful_shutdown=int(2 * limits.timeout) + 5,
    )  # fmt: skip
    running = Running(config, server)
    faults: list[str] = []
    threading.Thread(
        target=_announce, args=(server, running, host, listening.getsockname()[1], faults), daemon=True
    ).start()
    gc.freeze()  # see `dualvit.serve.worker.work`
    try:
        running.run([listening])
    finally:  # whatever ended it
        for pool in server.pools.values():
            pool.close()
        gc.unfreeze()  # so that libraries are taken down as ever, and none complains of leaks
    if faults:
        raise StateError(faults[0])


def _announce(server: Server, running: Running, host: str, port: int, faults: list[str]) -> None:
    """Say when each model is up; a model that does not open at the start ends the server."""
    for name, pool in server.pools.items():
        try:
            pool.wait_first()
        except StateError as error:
            if not server.closing:
                faults.append(str(error))
                server.closing = running.should_exit = True
            return
        about = pool.described()
        say(f"{name}: {about['task']} of {len(about['classes'])} classes in {about['runtime']}, {about['precision']}")
    say(f"http://{host}:{port}/v1/models")
