"""The report of a bench: a table on the screen, a picture of time over image size, and JSON."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualvit.bench.results import BenchResult, Measurement, points
from dualvit.files import free_paths, write_atomic, write_json
from dualvit.pictures.curves import Curve, time_over_size

HEADS = ("model", "px", "dtype", "M par", "GMACs", "ms", "quartiles", "img/s", "MB", "share")
WORDS = ("model", "dtype")


def show(result: BenchResult, console: Console) -> None:
    """Print the table, and for each model the power of the pixels with which its time grows."""
    rates = ", ".join(f"{dtype} {rate / 1e9:.0f} GMAC/s" for dtype, rate in result.rate.items())
    hardware = f"{result.environment['hardware']}, {result.threads} threads"
    console.print(f"{result.settings}, {hardware}; matrix product: {rates}", highlight=False, markup=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    training = result.settings.train
    for head in (*HEADS, "saved/img" if training else "error"):
        justify = "left" if head in WORDS else "right"
        table.add_column(head, justify=justify, overflow="fold", no_wrap=head != "model")  # type: ignore[arg-type]
    for one in result.measured:
        table.add_row(*map(Text, texts(one)))
    if result.measured:
        console.print(table)
    last = "saved/img: kept for the backward pass" if training else "error: against float32, same weights"
    failures = [one for one in result.measurements if one.failure]
    note = f"share: multiply-adds per second over the matrix product's; {last}"
    for line in (*failures, note, *result.growth):
        console.print(str(line), highlight=False, markup=False, soft_wrap=True)


def texts(one: Measurement) -> list[str]:
    """Return a row of the table as a reader sees it; last the saved bytes in training, else the error."""
    assert one.latency is not None
    last = "" if one.error is None else f"{100 * one.error:.2g} %"
    return [
        one.model, str(one.image_size), one.dtype, f"{one.parameters / 1e6:.2f}", f"{one.macs / 1e9:.2f}",
        f"{one.latency.median:.4g}", one.latency.quartiles, f"{one.throughput:.1f}", f"{one.peak_memory / 2**20:.0f}",
        f"{one.share:.2f}", last if one.saved is None else f"{one.saved / 2**20:.0f} MB",
    ]  # fmt: skip


def write(result: BenchResult, folder: Path) -> list[Path]:
    """Write `bench.json` and, if sizes differ, `bench.svg` and `bench.png`; returns the files.

    No file is overwritten: what a second bench writes has a number in its names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(result) if result.growth else {}
    files = free_paths(folder, "bench.json", *(f"bench.{suffix}" for suffix in drawn))
    write_json(files[0], result.to_json())
    for file, content in zip(files[1:], drawn.values(), strict=True):
        write_atomic(file, content)
    return files


def draw(result: BenchResult) -> dict[str, bytes]:
    """Return the picture of time over image size, a line for each model and precision, with its exponent."""
    dtypes = list(result.rate)
    models = list(dict.fromkeys(one.model for one in result.measurements))
    curves = []
    for growth in result.growth:
        sizes, times = zip(*points(result.measurements, growth.model, growth.dtype), strict=True)
        name = growth.model if len(dtypes) == 1 else f"{growth.model} {growth.dtype}"
        label = f"{name}   pixels^{growth.exponent:.2f}"
        curves.append(Curve(label, sizes, times, models.index(growth.model), dtypes.index(growth.dtype)))
    title = f"{result.environment['hardware']}, batch {result.settings.batch}"
    return time_over_size(curves, result.settings.what, title)
