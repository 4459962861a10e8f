"""The server of the page: on this machine alone unless asked, without telemetry, links or anything left behind."""

import ipaddress
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualvit.app.offer import Offer
from dualvit.errors import StateError

UPLOAD = "64mb"  # of one file


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
        RuntimeError: the port is in use, or the host is none of this machine.
        ValueError: a model that the command line names cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="dualvit-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # both are read when Gradio is imported
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page, options = _page(offer, Path(folder))
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())  # so that the folder goes, too
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, inbrowser=False,
                max_file_size=UPLOAD, ssr_mode=False, run_history=False, enable_monitoring=False, mcp_server=False,
                pwa=False, show_error=True, footer_links=[], **options,
            )  # fmt: skip
        except OSError as error:
            if "empty port" in str(error):
                raise StateError(f"port {port} of {host} is in use; give another one with --port") from None
            raise
        try:
            ready(address)
            stop.wait()
        finally:
            page.close(verbose=False)


def _page(offer: Offer, folder: Path) -> tuple[Any, dict[str, Any]]:
    from dualvit.app.album import examples, take_all
    from dualvit.app.page import Page
    from dualvit.app.seen import Models
    from dualvit.app.style import CSS, theme

    models = Models(offer.models)
    for name in list(offer.models)[: offer.named or 1]:
        models.open(name)  # a mistake in the command line is told before the page opens
    pictures, notes = take_all(offer.pictures or examples(folder))
    if offer.left_out:
        notes.append(f"The first {len(offer.pictures)} pictures of the folder are here; {offer.left_out} are left out.")
    return Page(offer, models, pictures, notes).build(), {"theme": theme(), "css": CSS}
