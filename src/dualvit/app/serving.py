"""The server of the page: on this machine alone unless asked, without telemetry, links or anything left behind."""

import errno
import ipaddress
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualvit.app.offer import Offer
from dualvit.errors import InputError, StateError

UPLOAD = "64mb"  # of one file
SESSIONS = 20  # open pages whose pictures are kept


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches a host.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("192.168.0.7")
        (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(offer: Offer, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        offer: What can be chosen in it.
        host: An address of this machine.
        port: A free one.
        ready: Called with each line for the terminal, the last of them the page's address.

    Raises:
        RuntimeError: the port is in use.
        ValueError: the host is none of this machine, or a model that the command line names cannot be used.
    """
    require_free(host, port)
    with tempfile.TemporaryDirectory(prefix="dualvit-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # both are read when Gradio is imported
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page, options = _page(offer, Path(folder))
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())  # so that the folder goes, too
        _, address, _ = page.launch(
            server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, inbrowser=False,
            max_file_size=UPLOAD, ssr_mode=False, run_history=False, enable_monitoring=False, mcp_server=False,
            pwa=False, show_error=True, state_session_capacity=SESSIONS, footer_links=[], **options,
        )  # fmt: skip
        try:
            ready(address)
            stop.wait()
        finally:
            page.close(verbose=False)


def require_free(host: str, port: int) -> None:
    """Stop before anything is opened if nobody can listen at an address.

    Raises:
        RuntimeError: the port is in use.
        ValueError: the host is none of this machine, or the port is for the system alone.
    """
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StateError(f"port {port} of {host} is in use; give another one with --port") from None
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror}; give others") from None


def _page(offer: Offer, folder: Path) -> tuple[Any, dict[str, Any]]:
    from dualvit.app.album import take_all
    from dualvit.app.examples import draw_examples
    from dualvit.app.page import Page
    from dualvit.app.seen import Models
    from dualvit.app.style import CSS, theme

    models = Models(offer.models)
    for name in list(offer.models)[: offer.named or 1]:
        models.open(name, offer.image_size)  # a mistake in the command line is told before the page opens
    pictures, notes = take_all(offer.pictures or draw_examples(folder))
    if offer.left_out:
        notes.append(f"The first {len(offer.pictures)} pictures of the folder are here; {offer.left_out} are left out.")
    return Page(offer, models, pictures, notes).build(), {"theme": theme(), "css": CSS}
