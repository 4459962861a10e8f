"""Processes for cells: each of its own, so that a crash, a kill or lost memory stays with one cell."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path

from dualvit.compare.worker import work

GRACE = 3.0  # seconds from the request to stop until a process is killed; a kill costs no more than its last epoch


def preload(module: str, cuda: bool) -> None:
    """Import a module and its libraries once, in the background, for all processes to come.

    Importing takes longer than a short cell trains. A process on a GPU starts fresh all the same,
    because CUDA does not survive a fork.
    """
    if start_method(cuda) == "forkserver":
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["dualvit.compare.worker", module])
        forkserver.ensure_running()


def start_method(cuda: bool) -> str:
    """Return how processes start: forked off one that has imported everything, or fresh."""
    return "forkserver" if not cuda and "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def spawn(folder: Path, gpu: str | None, measure: bool = False) -> BaseProcess:
    """Start a cell, or the measurement of cost, in a process of its own."""
    context = multiprocessing.get_context(start_method(gpu is not None))
    process: BaseProcess = context.Process(target=work, args=(folder, gpu, measure))  # type: ignore[attr-defined]
    process.start()
    return process


def stop(processes: Iterable[BaseProcess]) -> None:
    """End processes and those that they started, with force where they take too long."""
    running = [process for process in processes if process.is_alive()]
    for process in running:
        _signal(process, signal.SIGTERM)
    limit = time.monotonic() + GRACE
    for process in running:
        process.join(max(limit - time.monotonic(), 0.1))
        if process.is_alive():
            _signal(process, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            process.join()


def _signal(process: BaseProcess, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.pid is not None and hasattr(os, "killpg") and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        elif number == signal.SIGTERM:
            process.terminate()
        else:
            process.kill()


def failure(folder: Path, code: int | None) -> str:
    """Why a process ended without a result, in one line with its log."""
    note = folder / "failure.txt"
    line = note.read_text().strip() if note.exists() else ""
    if not line:
        line = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        line += ", often because memory ran out" if code == -9 else ""
    return f"{line} (log: {folder / 'log.txt'})"
