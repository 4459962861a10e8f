"""A server that runs: uvicorn with limits on slow clients, an end without a lost request, and SIGHUP for a swap."""

import asyncio
import multiprocessing
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dualvit.errors import AccessError, StateError
from dualvit.serve.app import Server, make_app
from dualvit.serve.limits import Limits, Source

DRAIN = 1.0  # seconds between the signal to end and the last new connection: balancers read /health meanwhile
CONNECTIONS = 512  # at once; the next one gets 503
PRELOADED = {  # what a worker of a kind of file needs, imported once for all of them
    ".ckpt": ("dualvit.recipes.run",), ".pt": ("dualvit.yolo.explained",), ".safetensors": ("dualvit.yolo.explained",),
}  # fmt: skip


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait forever for the head of a request, nor for a client that does not read."""

    seconds = 30.0
    late: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # what is sent must be read in this time
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * self.seconds))
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head, if this is the beginning of one."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self.late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self.late = self.loop.call_later(self.seconds, self.transport.close)

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


def say(line: str) -> None:
    """Print a line to the log."""
    print(f"dualvit serve: {line}", file=sys.stderr, flush=True)


def prepare(sources: list[Source]) -> None:
    """Let workers be forked off a process that has imported all libraries, before any of them is needed."""
    kinds = {Path(source.path).suffix for source in sources}
    modules = [name for kind in sorted(kinds) for name in PRELOADED.get(kind, ())]
    multiprocessing.set_forkserver_preload(["dualvit.serve.worker", *dict.fromkeys(modules)])


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


def run(sources: list[Source], limits: Limits, key: bytes | None, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        OSError: the port is taken.
        RuntimeError: a model does not open; the message says why.
    """
    listening = listen(host, port)
    prepare(sources)
    server = Server(sources, limits, key)
    protocol = type("Protocol", (PatientProtocol,), {"seconds": limits.timeout})
    config = uvicorn.Config(
        make_app(server), http=protocol, ws="none", log_level="error", access_log=False,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=5, server_header=False,
        timeout_graceful_shutdown=int(2 * limits.timeout) + 5,
    )  # fmt: skip
    running = Running(config, server)
    faults: list[str] = []
    threading.Thread(
        target=_announce, args=(server, running, host, listening.getsockname()[1], faults), daemon=True
    ).start()
    running.run([listening])
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
