"""The bench's settings and its results: what is measured and how, a measurement each, and all of them together."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BenchSettings:
    """What is measured, and how.

    Attributes:
        models: Names with options, see `dualvit.bench.networks.parse_model`.
        image_size: Heights and widths in pixels.
        dtypes: Keys of `dualvit.bench.precision.DTYPES`.
        batch: Pictures in a pass.
        device: cpu, cuda, or cuda:N.
        train: Measure a training step (forward, backward, AdamW) instead of inference.
        features: Measure the maps that detectors read, without the classifier.
        fuse: Fuse each model first, see `dualvit.bench.cost.fuse_for_inference`.
        compile: Run through `torch.compile`.
        grad_checkpointing: Recompute blocks in the backward pass, all of them or those of some stages.
        rounds: Passes of each model that count.
        seconds: No new round begins after this time, unless fewer than two are done.
    """

    models: tuple[str, ...]
    image_size: tuple[int, ...] = (224,)
    dtypes: tuple[str, ...] = ("float32",)
    batch: int = 1
    device: str = "cpu"
    train: bool = False
    features: bool = False
    fuse: bool = False
    compile: bool = False
    grad_checkpointing: bool | tuple[int, ...] = False
    rounds: int = 20
    seconds: float = 120.0

    @property
    def what(self) -> str:
        """What a pass is: inference or a training step."""
        return "training step" if self.train else "inference"

    def __str__(self) -> str:
        words = [self.what, *(word for word in ("features", "fuse", "compile") if getattr(self, word))]
        if self.grad_checkpointing is True:
            words.append("recomputed")
        elif self.grad_checkpointing:
            words.append(f"recomputed in stages {' '.join(map(str, self.grad_checkpointing))}")
        return ", ".join([*words, f"batch {self.batch}"])


@dataclass(frozen=True)
class Latency:
    """Times of passes in milliseconds: median, quartiles, and how many passes.

    Example:
        >>> print(Latency.of([0.001, 0.002, 0.003, 0.004, 0.005]))
        3 ms (2-4)
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Return the spread of times in seconds."""
        low, median, high = (1e3 * value for value in statistics.quantiles(seconds, n=4, method="inclusive"))
        return cls(median, low, high, len(seconds))

    @property
    def quartiles(self) -> str:
        """Both as a reader sees them."""
        return f"{self.low:.4g}-{self.high:.4g}"

    def __str__(self) -> str:
        return f"{self.median:.4g} ms ({self.quartiles})"


@dataclass(frozen=True)
class Ratio:
    """How many times as long a model takes as another one, round by round: median, quartiles, and how many rounds.

    Example:
        >>> print(Ratio.of([0.002, 0.002, 0.006], [0.001, 0.002, 0.002]))
        2.00 (1.50-2.50)
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, times: Sequence[float], reference: Sequence[float]) -> "Ratio":
        """Return the spread over rounds of one model's times over another's."""
        ratios = [own / other for own, other in zip(times, reference, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high, len(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Measurement:
    """One model at one image size in one precision.

    Attributes:
        macs: Multiply-adds of a picture.
        latency: Of a pass; None if it failed.
        throughput: Pictures per second.
        peak_memory: Bytes.
        saved: Bytes per picture that a training step keeps for its backward pass; None for inference.
        share: Of the machine's matrix-product rate.
        error: Of the outputs, relative to float32; None for float32 and for training.
        failure: Why there are no figures; empty if there are.
    """

    model: str
    image_size: int
    dtype: str
    batch: int
    parameters: int = 0
    macs: int = 0
    latency: Latency | None = None
    throughput: float = 0.0
    peak_memory: int = 0
    saved: int | None = None
    share: float = 0.0
    error: float | None = None
    failure: str = ""

    def __str__(self) -> str:
        where = f"{self.model} at {self.image_size} in {self.dtype}"
        return f"{where}: {self.failure or f'{self.latency}, share {self.share:.2f}'}"


@dataclass(frozen=True)
class Growth:
    """How a model's time grows with its image: as pixels to the power of `exponent`."""

    model: str
    dtype: str
    exponent: float

    def __str__(self) -> str:
        return f"{self.model} {self.dtype}: time grows as pixels ** {self.exponent:.2f}"


@dataclass(frozen=True)
class BenchResult:
    """All measurements.

    Attributes:
        settings: As asked for.
        measurements: In the order of models, sizes and precisions.
        growth: One for each model and precision that was measured at several sizes.
        rate: The machine's multiply-adds per second in a matrix product, for each precision.
        threads: Of the CPU.
        environment: Versions, commit, date and hardware, see `dualvit.provenance.environment`.
    """

    settings: BenchSettings
    measurements: tuple[Measurement, ...]
    growth: tuple[Growth, ...]
    rate: dict[str, float]
    threads: int
    environment: dict[str, Any]

    @property
    def measured(self) -> list[Measurement]:
        """Return those that have figures."""
        return [one for one in self.measurements if not one.failure]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(map(str, (self.settings, *self.measurements, *self.growth)))


def points(measurements: Sequence[Measurement], model: str, dtype: str) -> list[tuple[int, float]]:
    """Return the image sizes, ascending, of one model in one precision with their milliseconds per picture."""
    return sorted(
        (one.image_size, one.latency.median / one.batch)
        for one in measurements
        if (one.model, one.dtype) == (model, dtype) and one.latency is not None
    )


def growths(measurements: Sequence[Measurement]) -> tuple[Growth, ...]:
    """Fit the power of the pixels by which time grows, for each model and precision with several sizes."""
    result = []
    for model, dtype in dict.fromkeys((one.model, one.dtype) for one in measurements):
        curve = points(measurements, model, dtype)
        if len({size for size, _ in curve}) > 1:
            pixels, times = zip(*((2 * math.log(size), math.log(time)) for size, time in curve), strict=True)
            result.append(Growth(model, dtype, statistics.linear_regression(pixels, times).slope))
    return tuple(result)
