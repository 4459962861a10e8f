"""What the cost bench found: a table on the screen, a picture of time over image size, and JSON."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualvit.files import write_atomic, write_json


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table, and for each model the power of the pixels with which its time grows."""
    plan = found["plan"]
    what = "training step" if plan["train"] else "inference"
    what += ", features" if plan["features"] else ""
    what += ", fused" if plan["fuse"] else ""
    what += ", compiled" if plan["compile"] else ""
    if stages := plan["checkpointing"]:
        what += ", recomputed: " + ("all stages" if stages is True else f"stages {', '.join(map(str, stages))}")
    rates = ", ".join(f"{dtype} {rate / 1e9:.0f} GMAC/s" for dtype, rate in found["rate"].items())
    console.print(
        f"{what}, batch {plan['batch']}, {found['hardware']}, {plan['threads']} threads; matrix product: {rates}",
        highlight=False,
        markup=False,
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    heads = ["model", "px", "dtype", "M par", "GMACs", "ms", "quartiles", "img/s", "MB", "share", "error"]
    if plan["train"]:
        heads[-1] = "saved/img"
    for head in heads:
        words = head in ("model", "dtype")
        table.add_column(head, justify="left" if words else "right", overflow="fold", no_wrap=head != "model")
    measured = [row for row in found["rows"] if "failure" not in row]
    for row in measured:
        table.add_row(*map(Text, texts(row)))
    if measured:
        console.print(table)
    for row in found["rows"]:
        if row not in measured:
            line = f"{row['model']} at {row['size']} in {row['dtype']}: {row['failure']}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    last = "saved/img: kept for the backward pass" if plan["train"] else "error: against float32, same weights"
    console.print(f"share: multiply-adds a second over the matrix product's; {last}", highlight=False)
    for fit in found["fits"]:
        console.print(
            f"{fit['model']} {fit['dtype']}: time grows as pixels ** {fit['exponent']:.2f}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def texts(row: dict[str, Any]) -> list[str]:
    """A row of the table as a reader sees it."""
    head = [row["model"], str(row["size"]), row["dtype"]]
    times = row["latency"]
    return [
        *head,
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['macs'] / 1e9:.2f}",
        f"{times['median']:.4g}",
        f"{times['low']:.4g}-{times['high']:.4g}",
        f"{row['throughput']:.1f}",
        f"{row['peak_memory'] / 2**20:.0f}",
        f"{row['share']:.2f}",
        last_column(row),
    ]


def last_column(row: dict[str, Any]) -> str:
    """The error against float32, or in training what an image needs to be kept for the backward pass."""
    if row["saved"] is not None:
        return f"{row['saved'] / 2**20:.0f} MB"
    return "" if row["error"] is None else f"{100 * row['error']:.2g} %"


def write(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write `bench.json` and, where sizes differ, `bench.png` and `bench.svg`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "bench.json", found)
    files = [folder / "bench.json"]
    if found["fits"]:
        for suffix, content in draw(found).items():
            write_atomic(folder / f"bench.{suffix}", content)
            files.append(folder / f"bench.{suffix}")
    return files


def draw(found: dict[str, Any]) -> dict[str, bytes]:
    """Time of a picture over image size, a line for each model and precision, with its exponent."""
    from dualvit.pictures.curves import Curve, time_over_size

    batch, dtypes = found["plan"]["batch"], list(found["rate"])
    models = list(dict.fromkeys(row["model"] for row in found["rows"]))
    curves = []
    for fit in found["fits"]:
        key = (fit["model"], fit["dtype"])
        points = [r for r in found["rows"] if (r["model"], r["dtype"]) == key and "latency" in r]
        points.sort(key=lambda r: r["size"])
        sizes, times = zip(*((r["size"], r["latency"]["median"] / batch) for r in points), strict=True)
        name = fit["model"] if len(dtypes) == 1 else " ".join(key)
        label = f"{name}   pixels^{fit['exponent']:.2f}"
        curves.append(Curve(label, sizes, times, models.index(fit["model"]), dtypes.index(fit["dtype"])))
    what = "training step" if found["plan"]["train"] else "inference"
    return time_over_size(curves, what, f"{found['hardware']}, batch {batch}")
