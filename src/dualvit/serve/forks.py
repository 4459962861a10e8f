"""The process that workers of this machine are forked off: it imports all libraries once."""

import multiprocessing
from collections.abc import Iterable
from multiprocessing import forkserver
from pathlib import Path

PRELOADED = {  # what a worker of a kind of file needs
    ".ckpt": ("dualvit.recipes.run",), ".pt": ("dualvit.yolo.explained",), ".safetensors": ("dualvit.yolo.explained",),
}  # fmt: skip


def prepare(paths: Iterable[str]) -> None:
    """Let it import what workers of these models need, while this process goes on."""
    kinds = {Path(path).suffix for path in paths}
    modules = [name for kind in sorted(kinds) for name in PRELOADED.get(kind, ())]
    multiprocessing.set_forkserver_preload(["dualvit.serve.worker", *dict.fromkeys(modules)])
    forkserver.ensure_running()
