"""The report's table of latency: each model in each runtime, beside the reference in the same rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dualvit.bench.results import Latency, Ratio
from dualvit.compare.results import Cost, Costs, Ends

NAMES = {"eager": "eager", "onnxruntime": "onnxruntime", "openvino": "OpenVINO"}
NOTE = (
    "Ratios of latency are taken round by round: the median over rounds, and the quartiles. Each runtime has the same "
    "number of threads, float32, and one file for each model, exported from the weights of the first seed's last epoch."
)


@dataclass(frozen=True)
class Timing:
    """A model in one runtime.

    Attributes:
        latency: Of one picture.
        ratio: To the reference in the same runtime; None for the reference itself, and where it was not measured.
        ends: The first and the last minute of a sustained run.
    """

    latency: Latency
    ratio: Ratio | None = None
    ends: Ends | None = None


def timings(cost: Cost, reference: Cost | None) -> dict[str, Timing]:
    """Return a model's latency in each runtime, beside that of the reference; None for the reference itself."""
    found = {}
    for name in NAMES:
        if (timed := cost.runtimes.get(name)) is None:
            continue
        other = reference.runtimes.get(name) if reference else None
        known = other is not None and len(other.rounds) == len(timed.rounds) > 1 and min(other.rounds) > 0
        ratio = Ratio.of(timed.rounds, other.rounds) if other is not None and known else None
        found[name] = Timing(timed.latency, ratio, timed.ends)
    return found


def columns(models: Sequence[Mapping[str, Timing]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells for the table of results: the median in each runtime besides eager."""
    runtimes = [name for name in NAMES if name != "eager" and any(name in timing for timing in models)]
    cells = [[f"{own[name].latency.median:.1f} ms" if name in own else "" for name in runtimes] for own in models]
    return [NAMES[name] for name in runtimes], cells


def table(models: Mapping[str, Mapping[str, Timing]], reference: str) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the table of latency; no rows if nothing besides eager was measured.

    Args:
        models: Timings by label.
        reference: The label that ratios are taken to.
    """
    runtimes = [name for name in NAMES if any(name in own for own in models.values())]
    heads = ["model", *(head for name in runtimes for head in (f"{NAMES[name]}, ms", "of the reference"))]
    rows = []
    for label, own in models.items():
        absent = "reference" if label == reference else ""
        found = [own.get(name) for name in runtimes]
        cells = [(_number(one.latency), str(one.ratio or absent)) if one else ("", "") for one in found]
        rows.append([label, *(text for pair in cells for text in pair)])
    return heads, rows if len(runtimes) > 1 else []


def _number(latency: Latency) -> str:
    return f"{latency.median:.4g} ({latency.quartiles})"


def lines(costs: Costs, models: Mapping[str, Mapping[str, Timing]]) -> list[str]:
    """Return what is to be said of the latencies: notes of the measurement, and a line for each sustained run."""
    runs = [
        f"{label} in {NAMES[name]}: {_throttled(timing.ends)}"
        for label, own in models.items()
        for name, timing in own.items()
        if timing.ends is not None
    ]
    whole = costs.sustained or 0.0
    head = f"Sustained for {whole:g} seconds, all models in turn; the first {min(60, whole / 2):g} and the last ones:"
    return [*costs.notes, *([head, *runs] if runs else [])]


def _throttled(ends: Ends) -> str:
    times = f", {ends.last.median / ends.first.median:.2f} times" if ends.first.median else ""
    return f"{ends.first}, then {ends.last}{times}"
