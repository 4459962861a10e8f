"""The command `dualvit app`."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dualvit_cli.shared import importing, say

PORT = 7860


def app(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="best.pt, best.ckpt or .safetensors, several of them, or folders of them. The starts in the package "
            "if left out."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with pictures to choose from.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; the default is reached from this machine alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = PORT,
) -> None:
    """Open a page in which models look at pictures: boxes, masks, classes, and what each looked at.

    Only the models named here can be chosen in it: a .pt file is a pickle, and to open one runs what it holds.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ModuleNotFoundError("dualvit app needs gradio; install dualvit[app]")
    with importing():
        from dualvit.app.offer import offer
        from dualvit.app.serving import is_loopback, serve
    offered = offer(models or [], data)
    if not is_loopback(host):
        seen = f"these models and see {data or 'the page'}"
        say(f"warning: {host} is reached from other machines; whoever reaches it can use {seen}")
    try:
        serve(offered, host, port, lambda address: say(f"{address}  (Ctrl-C ends it)"))
    except KeyboardInterrupt:
        say("stopped")
        leave(130)
    leave(0)


def leave(status: int) -> None:
    """End the process at once: else a map in the making, which may take minutes, would hold it until it is made."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
