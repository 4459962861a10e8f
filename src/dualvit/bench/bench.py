"""`dualvit bench`: what models cost at each image size and in each precision, beside what the machine could do.

    cells (model x size x dtype, inference or a training step)  --rounds, the cells in turn-->  times
    a matrix product before and after each                      --------------------------->  the machine's rate

A cell's share is its multiply-adds a second over the machine's just before and after, so that a busy moment, which
hurts both, leaves it as it is.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.allocator import keep_freed_memory
from dualvit.backbones.recompute import recompute_blocks
from dualvit.bench.cost import PeakMemory, fold, macs, parameters, saved_bytes, spread, wait
from dualvit.bench.networks import bench_network, parse_model
from dualvit.bench.precision import DTYPES, prepare, relative_error
from dualvit.provenance import environment

PROBE = {"cpu": 2048, "cuda": 8192}  # largest side of the matrices whose product is the machine's rate
PROBE_SECONDS = 0.1  # no larger ones than take this long: formats without hardware are hundreds of times slower
MIN_ROUNDS = 2


@dataclass(frozen=True)
class Plan:
    """What is measured, and how.

    Attributes:
        models: Names with options, see `dualvit.bench.networks.parse_model`.
        sizes: Heights and widths in pixels.
        dtypes: Keys of `dualvit.bench.precision.DTYPES`.
        batch: Pictures in a pass.
        device: cpu, cuda, or cuda:N.
        train: Measure a training step (forward, backward, AdamW) instead of inference.
        features: Measure the maps that detectors read, without the classifier.
        fuse: Fold what can be folded, see `dualvit.bench.cost.fold`.
        compile: Run through `torch.compile`.
        checkpointing: Recompute blocks in the backward pass, all of them or those of some stages.
        rounds: Passes of each cell that count.
        seconds: No new round begins after this time, unless fewer than two are done.
    """

    models: tuple[str, ...]
    sizes: tuple[int, ...] = (224,)
    dtypes: tuple[str, ...] = ("float32",)
    batch: int = 1
    device: str = "cpu"
    train: bool = False
    features: bool = False
    fuse: bool = False
    compile: bool = False
    checkpointing: bool | tuple[int, ...] = False
    rounds: int = 20
    seconds: float = 120.0


@dataclass
class Cell:
    """One model at one size in one precision.

    Attributes:
        failure: Why it has no figures; empty where it has.
        saved: Bytes that a training step keeps for its backward pass.
        times: Seconds of each pass.
        shares: Of the machine's rate, for each pass.
    """

    model: str
    size: int
    dtype: str
    step: Callable[[], Any] | None = None
    parameters: int = 0
    macs: int = 0
    error: float | None = None
    peak_memory: int = 0
    saved: int = 0
    failure: str = ""
    times: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


def bench(plan: Plan, progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> dict[str, Any]:
    """Measure a plan's cells in turn.

    Args:
        plan: What to measure.
        progress: Called with what is going on, how much of it is done, and of how much.

    Returns:
        `rows`, one a cell; `fits`, for each model and precision the exponent of time over pixels; `rate`, the machine's
        multiply-adds a second by precision; the plan, and the environment.

    Raises:
        ValueError: an unknown model, precision or device, or a number below 1.
    """
    check(plan)
    keep_freed_memory()
    device = torch.device(plan.device)
    cells, total = [], len(plan.models) * len(plan.sizes) * len(plan.dtypes)
    with memory_guard(device):
        for cell in build_cells(plan, device):
            cells.append(cell)
            progress("warm up", len(cells), total)
        rates = run_rounds(plan, device, [cell for cell in cells if not cell.failure], progress)
    rows = [row(plan, cell) for cell in cells]
    return {
        "plan": vars(plan) | {"threads": torch.get_num_threads()},
        "rows": rows,
        "fits": fits(rows),
        "rate": {dtype: statistics.median(values) for dtype, values in rates.items()},
        **environment(device.type == "cuda"),
    }


def check(plan: Plan) -> None:
    """Raise ValueError for what cannot be measured, before anything is built."""
    if not plan.models:
        raise ValueError("no models; name some, such as dualvit_s,swin_tiny_patch4_window7_224")
    for name, least in (("batch", 1), ("rounds", MIN_ROUNDS)):  # quartiles need two
        if getattr(plan, name) < least:
            raise ValueError(f"{name} is {getattr(plan, name)}; give {least} or more")
    for size in plan.sizes:
        if size < 32 or size % 32:
            nearest = max(32, 32 * round(size / 32))
            raise ValueError(f"size is {size}; sides must be multiples of 32, such as {nearest}")
    for dtype in plan.dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; give {', '.join(DTYPES)}")
        if plan.train and not DTYPES[dtype].trains:
            raise ValueError(f"dtype {dtype} is for inference; leave it out, or measure without training")
    try:
        torch.empty(1, device=plan.device)
    except (RuntimeError, AssertionError) as error:
        have = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        reason = " ".join(str(error).split("\n")[0].split())
        raise ValueError(f"device {plan.device!r} is not here ({reason}); this machine has {', '.join(have)}") from None
    for model in plan.models:
        parse_model(model)


def build_cells(plan: Plan, device: torch.device) -> Iterator[Cell]:
    """Each cell, built, counted and run once; what fails keeps the reason instead of a step."""
    for model in plan.models:
        for size in plan.sizes:
            for dtype in plan.dtypes:
                cell = Cell(model, size, dtype)
                with failing_alone(cell, device):
                    prepare_cell(cell, plan, device)
                yield cell


@contextlib.contextmanager
def failing_alone(cell: Cell, device: torch.device) -> Iterator[None]:
    """Keep what goes wrong with a cell as its one-line reason, and give its memory back."""
    try:
        yield
    except Exception as error:  # whatever a model raises; the others go on
        cell.step = None
        line = " ".join(str(error).split())[:200] or type(error).__name__
        cell.failure = "out of memory" if is_out_of_memory(error) else line
    if cell.failure and device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, in any of torch's ways."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in words for word in ("out of memory", "can't allocate memory", "not enough memory")
    )


def prepare_cell(cell: Cell, plan: Plan, device: torch.device) -> None:
    """Build the model and the step, and run it twice: for the memory at its peak, and for what a backward needs."""
    image = torch.randn(plan.batch, 3, cell.size, cell.size, generator=torch.Generator().manual_seed(0)).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    network = bench_network(cell.model, cell.size, plan.features)
    cell.parameters, cell.macs = parameters(network), macs(network, cell.size) * plan.batch
    network = network.to(device)
    if plan.train:
        recompute_blocks(network, plan.checkpointing)
        cell.step = training_step(network.train(), image, cell.dtype, plan.compile)
    else:
        cell.step, cell.error = inference(network.eval(), image, cell.dtype, plan)
    memory = PeakMemory(device.type == "cuda")
    memory.start()
    cell.step()
    wait(device)
    cell.peak_memory = memory.bytes()
    with saved_bytes(network) as saved:
        cell.step()
        cell.saved = saved()


def inference(network: nn.Module, image: Tensor, dtype: str, plan: Plan) -> tuple[Callable[[], Any], float | None]:
    """A forward pass, and how far its output is from that of the same weights in float32."""
    with torch.inference_mode():
        exact = network(image) if dtype != "float32" else None
    if plan.fuse:
        fold(network)
    network, image, context = prepare(network, image, dtype)
    if plan.compile:
        network = torch.compile(network)  # type: ignore[assignment]

    def step() -> Any:
        with torch.inference_mode(), context():
            return network(image)

    return step, None if exact is None else relative_error(step(), exact)


def training_step(network: nn.Module, image: Tensor, dtype: str, compiled: bool) -> Callable[[], Any]:
    """Forward, a loss of all outputs, backward, and AdamW."""
    network, image, context = prepare(network, image, dtype)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    forward: Callable[..., Any] = torch.compile(network) if compiled else network

    def step() -> None:
        with context():
            outputs = forward(image)
        loss = sum(out.float().square().mean() for out in flat(outputs))
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def flat(value: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for item in items for tensor in flat(item)]


def run_rounds(
    plan: Plan, device: torch.device, cells: Sequence[Cell], progress: Callable[[str, int, int], None]
) -> dict[str, list[float]]:
    """Time every cell once a round, between two looks at the machine's own rate; returns that rate by precision."""
    probes = {dtype: probe(device, dtype) for dtype in dict.fromkeys(cell.dtype for cell in cells)}
    rates: dict[str, list[float]] = {dtype: [] for dtype in probes}
    start, seen = time.perf_counter(), ""  # the precision that was looked at last
    for index in range(plan.rounds):
        if index >= MIN_ROUNDS and time.perf_counter() - start > plan.seconds:
            break
        for cell in cells:
            if cell.failure or cell.step is None:
                continue
            look, found = probes[cell.dtype], rates[cell.dtype]
            if seen != cell.dtype:
                found.append(look())
            with failing_alone(cell, device):
                wait(device)
                before = time.perf_counter()
                cell.step()
                wait(device)
                cell.times.append(time.perf_counter() - before)
                found.append(look())
                work = cell.macs * (3 if plan.train else 1)
                cell.shares.append(work / cell.times[-1] / statistics.fmean(found[-2:]))
            seen = "" if cell.failure else cell.dtype
        progress("measure", index + 1, plan.rounds)
    return rates


def probe(device: torch.device, dtype: str) -> Callable[[], float]:
    """A square matrix product: each call returns the machine's multiply-adds a second, the best of three."""
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
    """On the CPU let an allocation beyond the free memory fail, where Linux would kill the process for it later."""
    try:
        import resource

        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, KeyError, ValueError):
        yield
        return
    if device.type != "cpu":
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


def row(plan: Plan, cell: Cell) -> dict[str, Any]:
    """A cell's figures."""
    out: dict[str, Any] = {"model": cell.model, "size": cell.size, "dtype": cell.dtype, "batch": plan.batch}
    if cell.failure or not cell.times:
        return out | {"failure": cell.failure or "not measured"}
    times = spread(cell.times)
    return out | {
        "parameters": cell.parameters,
        "macs": cell.macs // plan.batch,
        "latency": times,
        "throughput": 1e3 * plan.batch / times["median"],
        "peak_memory": cell.peak_memory,
        "saved": cell.saved // plan.batch if plan.train else None,
        "share": statistics.median(cell.shares),
        "error": cell.error,
    }


def fits(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each model and precision measured at several sizes: time grows as pixels to this power."""
    found = []
    for key in dict.fromkeys((r["model"], r["dtype"]) for r in rows):
        points = [r for r in rows if (r["model"], r["dtype"]) == key and "latency" in r]
        if len({r["size"] for r in points}) > 1:
            pixels = [math.log(r["size"] ** 2) for r in points]
            times = [math.log(r["latency"]["median"]) for r in points]
            slope = statistics.linear_regression(pixels, times).slope
            found.append({"model": key[0], "dtype": key[1], "exponent": slope})
    return found
