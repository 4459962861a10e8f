"""`dualvit bench`: what models cost at each image size and in each precision, beside what the machine could do.

    cases (model x size x dtype, inference or a training step)  --rounds, the cases in turn-->  times
    a matrix product before and after each                      --------------------------->  the machine's rate

A case's share is its multiply-adds per second over the machine's just before and after. A busy moment hurts both, and
so leaves the share as it is.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.allocator import keep_freed_memory
from dualvit.backbones.recompute import recompute_blocks
from dualvit.bench.cost import PeakMemory, fuse_for_inference, macs, parameters, saved_bytes, wait
from dualvit.bench.machine import is_out_of_memory, memory_guard, probe
from dualvit.bench.networks import Detector, bench_network, parse_model
from dualvit.bench.precision import DTYPES, prepare, relative_error
from dualvit.bench.results import BenchResult, BenchSettings, Latency, Measurement, growths
from dualvit.deploy.runtimes import flat
from dualvit.errors import InputError, line_of
from dualvit.provenance import environment

MIN_ROUNDS = 2
Progress = Callable[[str, int, int], None]


@dataclass
class Case:
    """One model at one image size in one precision, while it is measured.

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

    def measurement(self, settings: BenchSettings) -> Measurement:
        """Return its figures."""
        batch = settings.batch
        if self.failure or not self.times:
            failure = self.failure or "not measured"
            return Measurement(self.model, self.size, self.dtype, batch, failure=failure)
        latency = Latency.of(self.times)
        return Measurement(
            self.model, self.size, self.dtype, batch, self.parameters, self.macs // batch, latency,
            throughput=1e3 * batch / latency.median,
            peak_memory=self.peak_memory,
            saved=self.saved // batch if settings.train else None,
            share=statistics.median(self.shares),
            error=self.error,
        )  # fmt: skip


def bench(
    settings: BenchSettings, progress: Progress = lambda what, done, total: None, detector: Detector | None = None
) -> BenchResult:
    """Measure models in turn.

    Args:
        settings: What to measure.
        progress: Called with what is going on, how much of it is done, and of how much.
        detector: Builds an Ultralytics YAML from its name and options; without it, such names are an error.

    Raises:
        ValueError: an unknown model, precision or device, or a number below 1.
    """
    check(settings)
    keep_freed_memory()
    device = torch.device(settings.device)
    cases = [Case(*names) for names in product(settings.models, settings.image_size, settings.dtypes)]
    with memory_guard(device):
        for number, case in enumerate(cases, 1):
            with failing_alone(case, device):
                prepare_case(case, settings, device, detector)
            progress("warm up", number, len(cases))
        rates = run_rounds(settings, device, [case for case in cases if not case.failure], progress)
    measurements = tuple(case.measurement(settings) for case in cases)
    return BenchResult(
        settings, measurements, growths(measurements),
        rate={dtype: statistics.median(values) for dtype, values in rates.items()},
        threads=torch.get_num_threads(),
        environment=environment(device.type == "cuda"),
    )  # fmt: skip


def check(settings: BenchSettings) -> None:
    """Raise ValueError for what cannot be measured, before anything is built."""
    if not settings.models:
        raise InputError("no models; name some, such as dualvit_s,swin_tiny_patch4_window7_224")
    for name, least in (("batch", 1), ("rounds", MIN_ROUNDS)):  # quartiles need two
        if getattr(settings, name) < least:
            raise InputError(f"{name} is {getattr(settings, name)}; give {least} or more")
    for size in settings.image_size:
        if size < 32 or size % 32:
            nearest = max(32, 32 * round(size / 32))
            raise InputError(f"image_size is {size}; sides must be multiples of 32, such as {nearest}")
    for dtype in settings.dtypes:
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}; give {', '.join(DTYPES)}")
        if settings.train and not DTYPES[dtype].trains:
            raise InputError(f"dtype {dtype} is for inference; leave it out, or measure without training")
    try:
        torch.empty(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        have = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(f"device {settings.device!r} is not here ({reason}); this machine has {have}") from None
    for model in settings.models:
        parse_model(model)


@contextlib.contextmanager
def failing_alone(case: Case, device: torch.device) -> Iterator[None]:
    """Keep what goes wrong with a case as its one-line reason, and give its memory back."""
    try:
        yield
    except Exception as error:  # whatever a model raises; the others go on
        case.step = None
        line = line_of(error, 200)
        case.failure = "out of memory" if is_out_of_memory(error) else line
    if case.failure and device.type == "cuda":
        torch.cuda.empty_cache()


def prepare_case(case: Case, settings: BenchSettings, device: torch.device, detector: Detector | None) -> None:
    """Build the model and the step, and run it twice: for the memory at its peak, and for what a backward needs."""
    image = torch.randn(settings.batch, 3, case.size, case.size, generator=torch.Generator().manual_seed(0)).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    network = bench_network(case.model, case.size, settings.features, detector)
    case.parameters, case.macs = parameters(network), macs(network, case.size) * settings.batch
    network = network.to(device)
    if settings.train:
        recompute_blocks(network, settings.grad_checkpointing)
        case.step = training_step(network.train(), image, case.dtype, settings.compile)
    else:
        case.step, case.error = inference(network.eval(), image, case.dtype, settings)
    memory = PeakMemory(device.type == "cuda")
    memory.start()
    case.step()
    wait(device)
    case.peak_memory = memory.bytes()
    with saved_bytes(network) as saved:
        case.step()
        case.saved = saved()


def inference(
    network: nn.Module, image: Tensor, dtype: str, settings: BenchSettings
) -> tuple[Callable[[], Any], float | None]:
    """A forward pass, and how far its output is from that of the same weights in float32."""
    with torch.inference_mode():
        exact = network(image) if dtype != "float32" else None
    if settings.fuse:
        fuse_for_inference(network)
    network, image, autocast = prepare(network, image, dtype)
    if settings.compile:
        network = torch.compile(network)  # type: ignore[assignment]

    def step() -> Any:
        with torch.inference_mode(), autocast():
            return network(image)

    return step, None if exact is None else relative_error(step(), exact)


def training_step(network: nn.Module, image: Tensor, dtype: str, compiled: bool) -> Callable[[], Any]:
    """Forward, a loss of all outputs, backward, and AdamW."""
    network, image, autocast = prepare(network, image, dtype)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    forward: Callable[..., Any] = torch.compile(network) if compiled else network

    def step() -> None:
        with autocast():
            outputs = forward(image)
        loss = sum(out.float().square().mean() for out in flat(outputs))
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def run_rounds(
    settings: BenchSettings, device: torch.device, cases: Sequence[Case], progress: Progress
) -> dict[str, list[float]]:
    """Time every case once a round, between two looks at the machine's own rate; returns that rate by precision."""
    probes = {dtype: probe(device, dtype) for dtype in dict.fromkeys(case.dtype for case in cases)}
    rates: dict[str, list[float]] = {dtype: [] for dtype in probes}
    start, seen = time.perf_counter(), ""  # the precision that was looked at last
    for index in range(settings.rounds):
        if index >= MIN_ROUNDS and time.perf_counter() - start > settings.seconds:
            break
        for case in cases:
            if case.failure or case.step is None:
                continue
            look, rate = probes[case.dtype], rates[case.dtype]
            if seen != case.dtype:
                rate.append(look())
            with failing_alone(case, device):
                wait(device)
                before = time.perf_counter()
                case.step()
                wait(device)
                case.times.append(time.perf_counter() - before)
                rate.append(look())
                work = case.macs * (3 if settings.train else 1)
                case.shares.append(work / case.times[-1] / statistics.fmean(rate[-2:]))
            seen = "" if case.failure else case.dtype
        progress("measure", index + 1, settings.rounds)
    return rates
