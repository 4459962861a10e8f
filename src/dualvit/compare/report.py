"""What an experiment found: a table, a picture, JSON, Markdown, and one HTML file that needs nothing else."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualvit.compare.build import Data
from dualvit.compare.experiment import Experiment
from dualvit.compare.statistics import mean_and_spread, paired, pareto, sentence
from dualvit.files import write_atomic, write_json
from dualvit.names import shortened

TEMPLATE = Path(__file__).parent / "report.html.jinja"
NOTES = (
    "The accuracy is that of the last epoch, on the validation pictures; ± is the sample standard deviation over "
    "seeds. `best` is the best epoch's, which is chosen on the same pictures and so flatters every model.",
    "Differences are taken seed by seed; their interval is Student's t. It speaks of chance in training, not of "
    "other data, and with several comparisons in 20 one of the intervals is expected to miss.",
    "All models have one learning rate here. A difference says as much of which model that rate suits as of the "
    "models: compare them at several rates. In YOLO, dualvit's own backbones take 8 times the rate from scratch.",
    "Multiply-adds are of one picture at the experiment's size. Latency is the median of one picture's forward "
    'pass, the models in turn, on the machine of "latency on".',
)


def summarise(
    experiment: Experiment, data: Data, results: Sequence[dict[str, Any]], cost: dict[str, Any]
) -> dict[str, Any]:
    """Everything that a report says, from the results of cells and the cost of models."""
    by_label: dict[str, dict[int, dict[str, Any]]] = {}
    for entry in experiment.models:
        of_model = {r["seed"]: r for r in results if r["label"] == entry.label}
        if of_model:
            by_label[entry.label] = of_model
    last = {label: {s: float(r["last"]) for s, r in found.items()} for label, found in by_label.items()}
    means = {label: statistics.fmean(values.values()) for label, values in last.items()}
    reference = experiment.reference if experiment.reference in means else max(means, key=lambda label: means[label])
    rows = [_row(label, found, cost["models"][label]) for label, found in by_label.items()]
    sentences = []
    grain = 1 / data.val if experiment.task == "classify" else 0.0
    for row in rows:
        difference = paired(last[row["label"]], last[reference], grain)
        row["reference"] = row["label"] == reference
        row["difference"] = None if row["reference"] or difference is None else asdict(difference)
        if difference is not None and not row["reference"]:
            sentences.append(sentence(row["label"], reference, difference))
    for key, value in (("macs", "pareto_macs"), ("latency", "pareto_latency")):
        points = {r["label"]: (r["latency"]["median"] if key == "latency" else r[key], r["accuracy"]) for r in rows}
        front = pareto(points)
        for row in rows:
            row[value] = row["label"] in front
    return {
        "title": experiment.output.name,
        "task": experiment.task,
        "metric": experiment.metric,
        "config": experiment.mapping(),
        "data": asdict(data),
        "reference": reference,
        "rows": rows,
        "sentences": sentences,
        "cost": {key: value for key, value in cost.items() if key != "models"},
        "cells": list(results),
        "wanted": len(experiment.models) * len(experiment.seeds),
    }


def _row(label: str, found: dict[int, dict[str, Any]], cost: dict[str, Any]) -> dict[str, Any]:
    accuracy, deviation = mean_and_spread([float(r["last"]) for r in found.values()])
    return {
        "label": label,
        "seeds": sorted(found),
        "accuracy": accuracy,
        "spread": deviation,
        "best": statistics.fmean(float(r["best"]) for r in found.values()),
        "epochs": statistics.fmean(r["epochs"][-1]["epoch"] for r in found.values()),
        "seconds": statistics.fmean(r["seconds"] for r in found.values()),
        "peak_memory": max(r["peak_memory"] for r in found.values()),
        **cost,
    }


def budget_words(config: dict[str, Any]) -> str:
    """The budget as a reader says it."""
    if "epochs" in config:
        return f"{config['epochs']} epoch" + ("s" if config["epochs"] > 1 else "")
    return f"{config['minutes']:g} minute" + ("s" if config["minutes"] != 1 else "") + " of training"


def percent(value: float, spread: float | None) -> str:
    """A share in hundredths with its spread.

    Example:
        >>> percent(0.912, 0.013), percent(0.5, None)
        ('91.2 ± 1.3', '50.0')
    """
    return f"{100 * value:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def table_rows(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the results table, the best model first."""
    metric = "top-1" if summary["metric"] == "top1" else summary["metric"]
    heads = [
        "model", metric, "best", "difference", "seeds", "parameters", "MACs", "latency", "training memory",
        "time a cell",
    ]  # fmt: skip
    rows = []
    for row in sorted(summary["rows"], key=lambda r: -r["accuracy"]):
        difference = row["difference"]
        if difference is None:
            against = "reference" if row["reference"] else ""
        else:
            interval = "" if difference["low"] is None else (
                f" ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})"
            )  # fmt: skip
            against = f"{100 * difference['mean']:+.1f}{interval}"
        rows.append([
            row["label"], percent(row["accuracy"], row["spread"]), f"{100 * row['best']:.1f}", against,
            str(len(row["seeds"])), count(row["parameters"]), count(row["macs"]), f"{row['latency']['median']:.1f} ms",
            f"{row['peak_memory'] / 2**20:.0f} MiB", f"{row['seconds'] / 60:.1f} min",
        ])  # fmt: skip
    return heads, rows


def count(number: float) -> str:
    """A large number in three figures.

    Example:
        >>> count(3_155_600), count(98_300_000), count(5.4e9)
        ('3.16 M', '98.3 M', '5.40 G')
    """
    value, unit = (number / 1e9, "G") if number >= 1e9 else (number / 1e6, "M")
    return f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f} {unit}"


def write_report(summary: dict[str, Any], folder: Path, console: Console) -> None:
    """Write results.json, plot.svg, plot.png, report.md and report.html, and print the table."""
    from dualvit.pictures.curves import accuracy_against_cost

    write_json(folder / "results.json", summary)
    pictures = accuracy_against_cost(summary)
    for suffix, content in pictures.items():
        write_atomic(folder / f"plot.{suffix}", content)
    write_atomic(folder / "report.md", markdown(summary))
    write_atomic(folder / "report.html", html(summary, pictures["svg"].decode()))
    heads, rows = table_rows(summary)
    console.print(screen_table(heads, rows, console.width))
    for line in summary["sentences"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def screen_table(heads: list[str], rows: list[list[str]], width: int) -> Table:
    """The results for a terminal; where it is narrow, the last columns stay in the report."""
    rows = [[shortened(label), *values] for label, *values in rows]

    def wide(columns: int) -> int:
        return sum(max(len(line[i]) for line in [heads, *rows]) + 2 for i in range(columns))

    columns = next((n for n in range(len(heads), 2, -1) if wide(n) <= width), 2)
    table = Table(box=None, header_style="bold")
    for head in heads[:columns]:
        table.add_column(head, justify="left" if head == "model" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row[:columns]))
    return table


def facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader needs to judge the figures, or to make them again."""
    config, cost, data = summary["config"], summary["cost"], summary["data"]
    skip = {"models", "output", "task", "data", "epochs", "minutes", "seeds", "device", "jobs", "workers", "reference"}
    settings = ", ".join(f"{key} {_words(value)}" for key, value in config.items() if key not in skip and value != [])
    machines = sorted({cell["hardware"] for cell in summary["cells"]})
    versions = ", ".join(f"{name} {number}" for name, number in cost["versions"].items())
    done = f"{len(summary['cells'])} of {summary['wanted']}"
    return [
        ("task", f"{summary['task']}: {data['train']} pictures to train on, {data['val']} to validate on, "
                 f"{data['classes']} classes ({config['data']})"),
        ("budget", f"{budget_words(config)} for each model and seed"),
        ("cells", f"{done} done, seeds {', '.join(map(str, config.get('seeds', [])))}"),
        ("settings", settings),
        ("trained on", "; ".join(machines)),
        ("latency on", f"{cost['hardware']}, batch 1, {cost['threads']} threads"),
        ("versions", versions),
        ("commit", str(cost["commit"] or "not in git")),
        ("date", max(cell["date"] for cell in summary["cells"])),
    ]  # fmt: skip


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown(summary: dict[str, Any]) -> str:
    """The report for a README."""
    heads, rows = table_rows(summary)
    lines = [f"# {escaped(summary['title'])}", "", "| " + " | ".join(heads) + " |"]
    lines.append("| --- |" + " ---: |" * (len(heads) - 1))
    lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    lines += [
        "",
        *(f"- {escaped(line)}" for line in summary["sentences"]),
        "",
        "![accuracy against cost](plot.png)",
        "",
    ]
    lines += [f"- failed: {escaped(item['cell'])}: {escaped(item['message'])}" for item in summary.get("failed", [])]
    lines += [f"- {key}: {escaped(value)}" for key, value in facts(summary)]
    return "\n".join([*lines, "", *(f"{note}\n" for note in NOTES)])


def escaped(text: str) -> str:
    """A text that Markdown shows as it is.

    Example:
        >>> print(escaped("a_b *c* <d> |$x$|"))
        a_b \\*c\\* \\<d\\> \\|\\$x\\$\\|
    """
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def html(summary: dict[str, Any], svg: str) -> str:
    """The report as one file with the picture inside; it fetches nothing."""
    import jinja2
    from markupsafe import Markup

    heads, rows = table_rows(summary)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        summary=summary, heads=heads, rows=rows, facts=facts(summary), budget=budget_words(summary["config"]),
        notes=[note.replace("`", "") for note in NOTES], svg=Markup(svg[svg.index("<svg") :]),
        front=[row["label"] for row in summary["rows"] if row["pareto_macs"] or row["pareto_latency"]],
    )  # fmt: skip
