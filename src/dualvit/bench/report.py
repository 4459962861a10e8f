"""The report of a bench: a table on the screen, a picture of time over image size, JSON, and a page."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from dualvit.bench.results import BenchResult, Measurement, points
from dualvit.command import command_line
from dualvit.files import free_paths, write_atomic, write_json
from dualvit.pictures.curves import Curve, time_over_size
from dualvit.report.page import NAME, Command, Facts, Figure, Figures, Page, Part, Section, Table, Words

HEADS = ("model", "px", "dtype", "M par", "GMACs", "ms", "quartiles", "img/s", "MB", "share")
WORDS = ("model", "dtype")
LIMITS = (
    "The models are measured in eager PyTorch, with weights as they are initialised. An exported file may order them "
    "otherwise: dualvit compare times files in onnxruntime and OpenVINO.",
    "Reading pictures, resizing them and choosing among boxes are not timed.",
    "Times hold for this machine, and for what else ran on it. The share stands beside the machine's own rate, just "
    "before and after each pass, which other work slows as well.",
    "Nothing here says which model is more accurate.",
)


def show(result: BenchResult, console: Console) -> None:
    """Print the table, and for each model the power of the pixels with which its time grows."""
    hardware = f"{result.environment['hardware']}, {result.threads} threads"
    console.print(f"{result.settings}, {hardware}; matrix product: {_rates(result)}", highlight=False, markup=False)
    table = ScreenTable(box=None, header_style="bold", pad_edge=False)
    for head in (*HEADS, _last(result)):
        justify = "left" if head in WORDS else "right"
        table.add_column(head, justify=justify, overflow="fold", no_wrap=head != "model")  # type: ignore[arg-type]
    for one in result.measured:
        table.add_row(*map(Text, texts(one)))
    if result.measured:
        console.print(table)
    failures = [one for one in result.measurements if one.failure]
    for line in (*failures, _note(result), *result.growth):
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


def write(result: BenchResult, folder: Path, report: bool = True) -> list[Path]:
    """Write `bench.json`, `report.html` unless it is not wanted, and, if sizes differ, `bench.svg` and `bench.png`.

    No file is overwritten: what a second bench writes has a number in its names.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(result) if result.growth else {}
    page = [NAME] if report else []
    files = free_paths(folder, "bench.json", *(f"bench.{suffix}" for suffix in drawn), *page)
    write_json(files[0], result.to_json())
    for file, content in zip(files[1:], drawn.values(), strict=False):
        write_atomic(file, content)
    if report:
        write_atomic(files[-1], html(result, drawn.get("svg")))
    return files


def html(result: BenchResult, svg: bytes | None = None) -> str:
    """Return the page of a bench; it fetches nothing.

    Args:
        result: All measurements.
        svg: The picture of time over image size.
    """
    settings, environment = result.settings, result.environment
    failed = [str(one) for one in result.measurements if one.failure]
    facts = [
        ("measured", str(settings)), ("rounds", f"at most {settings.rounds}, none begun after {settings.seconds:g} s"),
        ("machine", f"{environment['hardware']}; {settings.device}, {result.threads} threads"),
        ("matrix product", _rates(result)),
        ("versions", ", ".join(f"{name} {number}" for name, number in environment["versions"].items())),
        ("commit", str(environment["commit"] or "not in git")), ("date", environment["date"]),
    ]  # fmt: skip
    title = ", ".join(dict.fromkeys(one.model for one in result.measurements))
    alt = "; ".join(map(str, result.growth))
    sections: list[tuple[str, list[Part]]] = [
        ("", [Words(failed, "failed"), *([_figures(result)] if result.measured else [])]),
        ("Time over image size", [Figures([Figure("", svg, alt)], columns=1)] if svg else []),
        ("How it was made", [Facts(facts)]),
        ("How to get it again", [Command(command_line())]),
        ("What the figures do not show", [Words(LIMITS, "list")]),
    ]
    shown = [Section(title, parts) for title, parts in sections if parts]
    return Page("dualvit bench", title, _outcome(result), sections=shown).html()


def _figures(result: BenchResult) -> Table:
    """The table of the page; the quickest model of each size and precision stands out."""
    measured = result.measured
    quickest = {
        key: min((one for one in measured if (one.image_size, one.dtype) == key), key=_time)
        for key in {(one.image_size, one.dtype) for one in measured}
    }
    best = [
        (line, HEADS.index("ms"))
        for line, one in enumerate(measured)
        if quickest[one.image_size, one.dtype] is one and len({two.model for two in measured}) > 1
    ]
    return Table([*HEADS, _last(result)], [texts(one) for one in measured], best=best, note=f"{_note(result)}.")


def _time(one: Measurement) -> float:
    assert one.latency is not None
    return one.latency.median


def _outcome(result: BenchResult) -> str:
    """The quickest model, in a sentence."""
    if not result.measured:
        return "Nothing could be measured."
    size = result.measured[0].image_size
    same = [one for one in result.measured if one.image_size == size]
    best = min(same, key=_time)
    assert best.latency is not None
    words = f"{best.model} in {best.dtype} takes {best.latency.median:.4g} ms per pass at {size} pixels"
    words += f" and batch {best.batch} (quartiles {best.latency.quartiles})"
    return f"{words}, the least of {len(same)} measurements." if len(same) > 1 else f"{words}."


def _rates(result: BenchResult) -> str:
    return ", ".join(f"{dtype} {rate / 1e9:.0f} GMAC/s" for dtype, rate in result.rate.items())


def _last(result: BenchResult) -> str:
    """What the last column is."""
    return "saved/img" if result.settings.train else "error"


def _note(result: BenchResult) -> str:
    last = "saved/img: kept for the backward pass" if result.settings.train else "error: against float32, same weights"
    return f"share: multiply-adds per second over the matrix product's; {last}"


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
