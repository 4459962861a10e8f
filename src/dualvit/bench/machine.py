"""The machine under a bench: its matrix-product rate, and a limit that makes a lack of memory an error."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from dualvit.bench.cost import wait
from dualvit.bench.precision import DTYPES

PROBE = {"cpu": 2048, "cuda": 8192}  # largest side of the matrices whose product is the machine's rate
PROBE_SECONDS = 0.1  # no larger ones than take this long: formats without hardware are hundreds of times slower


def probe(device: torch.device, dtype: str) -> Callable[[], float]:
    """Return a function that multiplies square matrices: the machine's multiply-adds per second, the best of three."""
    kind, side = DTYPES[dtype].matmul, 128

    def matrices() -> list[Tensor]:
        return [torch.randn(side, side).to(device, kind) for _ in range(3)]

    def product(left: Tensor, right: Tensor, out: Tensor) -> float:
        wait(device)
        before = time.perf_counter()
        torch.mm(left, right, out=out)
        wait(device)
        return time.perf_counter() - before

    held = matrices()
    product(*held)
    while side < PROBE[device.type] and 8 * product(*held) < PROBE_SECONDS:
        side *= 2
        held = matrices()
    return lambda: float(side**3 / min(product(*held) for _ in range(3)))


@contextlib.contextmanager
def memory_guard(device: torch.device) -> Iterator[None]:
    """Let an allocation beyond the CPU's free memory fail, where Linux would kill the process for it later."""
    try:
        import resource

        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, KeyError, ValueError):
        free = None
    if free is None or device.type != "cpu":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + int(0.95 * free)
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, in any of torch's ways."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in words for word in ("out of memory", "can't allocate memory", "not enough memory")
    )
