"""What an experiment came to: a table, a picture, JSON, Markdown, and one HTML file that needs nothing else."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from dualvit.bench.results import Latency
from dualvit.command import command_line
from dualvit.compare.engine import DataSet
from dualvit.compare.experiment import Experiment
from dualvit.compare.latency import Timing, columns, lines, table, timings
from dualvit.compare.notes import paragraphs
from dualvit.compare.predictions import COCO_HEADS
from dualvit.compare.results import Cost, Costs, Machine, Result, count
from dualvit.compare.scenes import View
from dualvit.compare.statistics import Difference, against, mean_and_spread, paired, pareto, sentence, visible
from dualvit.compare.sweep import LEARNED, Swept
from dualvit.files import write_atomic, write_json
from dualvit.names import shortened
from dualvit.report.page import Command, Facts, Figure, Figures, Page, Part, Section, Table, Words

FRONT = "Coloured names are on a Pareto front: no other model is both cheaper and more accurate."


@dataclass(frozen=True)
class Failure:
    """A cell without a result, and why."""

    cell: str
    message: str


@dataclass(frozen=True)
class Row:
    """A model in the report: means over its seeds, its cost, and how it stands to the reference.

    Attributes:
        accuracy: Of the last epoch, 0..1, and `spread` its sample standard deviation; None with one seed.
        best: Of each seed's best epoch.
        epochs, seconds: That a cell trained.
        peak_memory: Bytes, the most of all seeds.
        reference: Whether it is the reference.
        difference: From the reference; None for the reference itself, and without a common seed.
        against: From what else the difference is: the null row's is from the model that it is.
        pareto_macs, pareto_latency: Whether nothing that costs less is better.
        runtimes: Latency in each runtime.
        coco, coco_spread: COCO's AP of YOLO's predictions, and its sample standard deviation; None without them.
    """

    label: str
    seeds: list[int]
    accuracy: float
    spread: float | None
    best: float
    epochs: float
    seconds: float
    peak_memory: int
    parameters: int
    macs: float
    latency: Latency
    reference: bool = False
    difference: Difference | None = None
    pareto_macs: bool = False
    pareto_latency: bool = False
    runtimes: dict[str, Timing] = field(default_factory=dict)
    coco: float | None = None
    coco_spread: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class Report:
    """Everything that an experiment came to; `results.json` is this, field by field.

    Attributes:
        config: The experiment as its YAML would say it.
        reference: The label that others are compared with.
        sentences: What the differences allow to say.
        cost: Where cost was measured.
        cells: All results.
        wanted: How many cells the experiment has.
        failed: Those without a result.
        visible: The smallest true difference that would be seen four times of five; None with one seed.
        sweep: The rates that were tried for each model.
        latency: What is to be said of the latencies, a line each.
        lines: What could not be used of the predictions, a line each.
    """

    title: str
    engine: str
    task: str
    metric: str
    config: dict[str, Any]
    data: DataSet
    reference: str
    rows: list[Row]
    sentences: list[str]
    cost: Machine
    cells: list[Result]
    wanted: int
    failed: list[Failure] = field(default_factory=list)
    visible: float | None = None
    sweep: list[Swept] = field(default_factory=list)
    latency: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the table and the sentences as plain text."""
        heads, rows = table_rows(self)
        widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads))]
        lines = ["  ".join(word.ljust(n) for word, n in zip(line, widths, strict=True)) for line in [heads, *rows]]
        return "\n".join([*(line.rstrip() for line in lines), *self.sentences])


def summarise(
    experiment: Experiment, data: DataSet, results: Sequence[Result], costs: Costs, failed: Sequence[Failure] = (),
    sweep: Sequence[Swept] = (), constant: float = 0.0,
) -> Report:  # fmt: skip
    """Return everything that a report says, from the results of cells and the costs of models.

    `constant` is what one answer for everything scores on the same pictures.
    """
    last: dict[str, dict[int, float]] = {}
    for entry in experiment.rows:
        if of_model := {r.seed: r.last for r in results if r.label == entry.label}:
            last[entry.label] = of_model
    means = {label: statistics.fmean(values.values()) for label, values in last.items()}
    models = {label: values for label, values in last.items() if label != experiment.null_label} or last
    best = max(models, key=lambda label: means[label])
    fixed = experiment.reference in models
    reference = (experiment.reference or best) if fixed else best
    rows = [_row([r for r in results if r.label == label], costs.models[label]) for label in last]
    by_macs = pareto({row.label: (row.macs, row.accuracy) for row in rows})
    by_latency = pareto({row.label: (row.latency.median, row.accuracy) for row in rows})
    grain = 1 / (data.test or data.val) if experiment.task == "classify" else 0.0
    differences = against(models, reference, fixed, grain)
    sentences = [sentence(label, reference, difference) for label, difference in differences.items()]
    null = _null(experiment, last, grain)
    for index, row in enumerate(rows):
        rows[index] = replace(
            row, reference=row.label == reference,
            difference=null if row.label == experiment.null_label else differences.get(row.label),
            against=experiment.null_row if row.label == experiment.null_label else None,
            pareto_macs=row.label in by_macs, pareto_latency=row.label in by_latency,
            runtimes=timings(costs.models[row.label], None if row.label == reference else costs.models[reference]),
        )  # fmt: skip
    seen = visible(differences.values())
    if seen is not None:
        sentences.append(visible_sentence(seen))
    if null is not None:
        sentences.append(null_sentence(str(experiment.null_row), null))
    sentences += [words for row in rows if (words := unlearned(row, constant))]
    sentences += [words for one in sweep if (words := one.doubt())]
    sentences += [f"{one.label} at {rate} failed: {words}" for one in sweep for rate, words in one.failed.items()]
    machine = Machine(**{f.name: getattr(costs, f.name) for f in fields(Machine)})
    return Report(
        experiment.output.name, experiment.engine, experiment.task, experiment.metric, experiment.mapping(), data,
        reference, rows, sentences, machine,
        list(results), len(experiment.rows) * len(experiment.seeds), list(failed),
        seen, list(sweep), lines(costs, {row.label: row.runtimes for row in rows}),
    )  # fmt: skip


def _null(experiment: Experiment, last: dict[str, dict[int, float]], grain: float) -> Difference | None:
    """The difference of the null row to the model that it is."""
    if experiment.null_row not in last or experiment.null_label not in last:
        return None
    return paired(last[experiment.null_label], last[experiment.null_row], grain)


def visible_sentence(seen: float) -> str:
    """What so many seeds can see, in words."""
    if seen >= 1:
        return "With so few seeds, any true difference would mostly go unseen."
    return f"A true difference of less than {100 * seen:.1f} points would mostly go unseen (80 % power)."


def unlearned(row: Row, constant: float) -> str:
    """Return a sentence if a model scores no more than one answer for everything; else nothing."""
    if row.accuracy >= constant + LEARNED:
        return ""
    plain = f", and one answer for everything scores {100 * constant:.1f}" if constant else ""
    return f"{row.label} learned nothing that counts ({100 * row.accuracy:.1f}{plain}), so its differences say nothing."


def null_sentence(label: str, difference: Difference) -> str:
    """What two trainings of one model differ by, in words."""
    found = f"{label}, trained again under other seeds, differs from itself by {difference} points"
    if difference.clear:
        return f"{found}: more than its seeds explain, so trust no difference of this size."
    return f"{found}: so much is chance."


def _row(results: Sequence[Result], cost: Cost) -> Row:
    accuracy, deviation = mean_and_spread([result.last for result in results])
    coco = [result.coco["AP"] for result in results if "AP" in result.coco]
    coco_mean, coco_deviation = mean_and_spread(coco) if coco else (None, None)
    return Row(
        results[0].label, sorted(result.seed for result in results), accuracy, deviation,
        best=statistics.fmean(result.best for result in results),
        epochs=statistics.fmean(result.epochs[-1]["epoch"] or 0 for result in results),
        seconds=statistics.fmean(result.seconds for result in results),
        peak_memory=max(result.peak_memory for result in results),
        parameters=cost.parameters, macs=cost.macs, latency=cost.latency,
        coco=coco_mean, coco_spread=coco_deviation,
    )  # fmt: skip


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


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the results table, the best model first."""
    ranked = sorted(report.rows, key=lambda row: -row.accuracy)
    runtimes, medians = columns([row.runtimes for row in ranked])
    coco = [COCO_HEADS[report.task]] if has_coco(report) else []
    metric, tests = "top-1" if report.metric == "top1" else report.metric, on_tests(report)
    heads = [
        "model", f"{metric}, test" if tests else metric, *coco, "best on val" if tests else "best", "difference",
        "seeds", "parameters", "MACs", "latency", *runtimes, "training memory", "time per cell",
    ]  # fmt: skip
    rows = [
        [
            row.label, percent(row.accuracy, row.spread),
            *(["" if row.coco is None else percent(row.coco, row.coco_spread)] if coco else []),
            f"{100 * row.best:.1f}",
            _difference(row, report.reference), str(len(row.seeds)), count(row.parameters),
            count(row.macs), f"{row.latency.median:.1f} ms", *others, f"{row.peak_memory / 2**20:.0f} MiB",
            f"{row.seconds / 60:.1f} min",
        ]
        for row, others in zip(ranked, medians, strict=True)
    ]  # fmt: skip
    return heads, rows


def _difference(row: Row, reference: str) -> str:
    if row.reference:
        return "reference"
    beside = f", to {row.against}" if row.against and row.against != reference else ""
    return f"{row.difference}{beside}" if row.difference else ""


def latency_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the table of latency, the best model first; no rows if eager alone was measured."""
    ranked = sorted(report.rows, key=lambda row: -row.accuracy)
    return table({row.label: row.runtimes for row in ranked}, report.reference)


def has_coco(report: Report) -> bool:
    """Whether COCO's AP is known of any model."""
    return any(row.coco is not None for row in report.rows)


def on_tests(report: Report) -> bool:
    """Whether the accuracy is that of the test split."""
    return report.config.get("score") == "test"


def notes(report: Report) -> list[str]:
    """Return what a reader must know of the figures, a paragraph each."""
    return paragraphs(
        report.engine, report.task, on_tests(report), has_coco(report), bool(report.sweep),
        bool(latency_rows(report)[1]),
    )  # fmt: skip


def write_report(report: Report, folder: Path, console: Console, view: View | None = None) -> None:
    """Write results.json, plot.svg, plot.png, report.md and report.html, and print the table.

    Args:
        report: What the experiment came to.
        folder: Of the experiment.
        console: Takes the table.
        view: The pictures on which two models differ most.
    """
    from dualvit.pictures.curves import accuracy_against_cost

    write_json(folder / "results.json", asdict(report))
    pictures = accuracy_against_cost(asdict(report))
    for suffix, content in pictures.items():
        write_atomic(folder / f"plot.{suffix}", content)
    write_atomic(folder / "report.md", markdown(report, view))
    write_atomic(folder / "report.html", html(report, pictures["svg"].decode(), view))
    heads, rows = table_rows(report)
    console.print(screen_table(heads, rows, console.width))
    for line in (*report.sentences, *report.latency):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def screen_table(heads: list[str], rows: list[list[str]], width: int) -> ScreenTable:
    """The results for a terminal; where it is narrow, the last columns stay in the report."""
    rows = [[shortened(label), *values] for label, *values in rows]

    def wide(columns: int) -> int:
        return sum(max(len(line[i]) for line in [heads, *rows]) + 2 for i in range(columns))

    columns = next((n for n in range(len(heads), 2, -1) if wide(n) <= width), 2)
    table = ScreenTable(box=None, header_style="bold")
    for head in heads[:columns]:
        table.add_column(head, justify="left" if head == "model" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row[:columns]))
    return table


def facts(report: Report) -> list[tuple[str, str]]:
    """Return what a reader needs to judge the figures, or to make them again."""
    config, cost, data = report.config, report.cost, report.data
    skip = {"models", "output", "task", "data", "epochs", "minutes", "seeds", "device", "jobs", "workers", "reference"}
    skip |= {"runtimes", "sustained"}
    settings = ", ".join(f"{key} {_words(value)}" for key, value in config.items() if key not in skip and value)
    tests = f"{data.test} to score on, " if data.test else ""
    return [
        ("task", f"{report.task}: {data.train} pictures to train on, {data.val} to validate on, {tests}"
                 f"{data.classes} classes ({config['data']})"),
        ("budget", f"{budget_words(config)} for each model and seed"),
        ("cells", f"{len(report.cells)} of {report.wanted} done, seeds {_words(config['seeds'])}"),
        ("settings", settings),
        ("trained on", "; ".join(sorted({cell.hardware for cell in report.cells}))),
        ("latency on", f"{cost.hardware}, batch 1, {cost.threads} threads"),
        ("versions", ", ".join(f"{name} {number}" for name, number in cost.versions.items())),
        ("commit", cost.commit or "not in git"),
        ("date", max(cell.date for cell in report.cells)),
    ]  # fmt: skip


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_words(item)}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown(report: Report, view: View | None = None) -> str:
    """Return the report for a README."""
    text = [f"# {escaped(report.title)}", "", *_table(*table_rows(report)), ""]
    text += [*(f"- {escaped(line)}" for line in report.sentences), "", "![accuracy against cost](plot.png)", ""]
    if view is not None:
        text += [escaped(view.lead), "", "![pictures on which two models differ most](differences.png)", ""]
    text += [*(f"- {escaped(line)}" for line in report.lines), ""] if report.lines else []
    text += ["## Learning rates", "", *_table(*sweep_rows(report)), ""] if report.sweep else []
    heads, rows = latency_rows(report)
    text += ["## Latency of one picture", "", *_table(heads, rows), ""] if rows else []
    text += [*(f"- {escaped(line)}" for line in report.latency), ""] if report.latency else []
    text += [f"- failed: {escaped(item.cell)}: {escaped(item.message)}" for item in report.failed]
    text += [f"- {key}: {escaped(value)}" for key, value in facts(report)]
    return "\n".join([*text, "", *(f"{note}\n" for note in notes(report))])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return lines + ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]


def sweep_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the table of rates: for each model the score at each rate, its best one marked."""
    rates = sorted({rate for one in report.sweep for rate in (*one.scores, *one.failed)}, key=float)
    rows = [[one.label, *(_at(one, rate) for rate in rates), f"{one.seconds / 60:.1f} min"] for one in report.sweep]
    return ["held-out training pictures", *rates, "time"], rows


def _at(swept: Swept, rate: str) -> str:
    if rate in swept.failed:
        return "failed"
    if rate not in swept.scores:
        return ""
    return f"{100 * swept.scores[rate]:.1f}" + ("*" if float(rate) == float(f"{swept.rate:g}") else "")


def escaped(text: str) -> str:
    """A text that Markdown shows as it is.

    Example:
        >>> print(escaped("a_b *c* <d> |$x$|"))
        a_b \\*c\\* \\<d\\> \\|\\$x\\$\\|
    """
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def html(report: Report, svg: str, view: View | None = None) -> str:
    """Return the report as one file with the pictures inside; it fetches nothing."""
    best = max(report.rows, key=lambda row: row.accuracy)
    metric = table_rows(report)[0][1]
    result = (
        f"{len(report.rows)} model{'s' if len(report.rows) > 1 else ''}, {budget_words(report.config)}, "
        f"{report.data.train} pictures at {report.config['image_size']} pixels. The highest {metric} is "
        f"{percent(best.accuracy, best.spread)}, of {best.label}."
    )
    return Page("dualvit compare", report.title, result, sections=_sections(report, svg, view)).html()


def _sections(report: Report, svg: str, view: View | None) -> list[Section]:
    """What the page shows, in order."""
    front = [row.label for row in report.rows if row.pareto_macs or row.pareto_latency]
    failed = [f"{item.cell} failed: {item.message}" for item in report.failed]
    results = Table(*table_rows(report), front=front, note=FRONT)
    sure = list(report.sentences) or ["One model: nothing to compare with."]
    drawing = Figure("", svg.encode(), "accuracy against multiply-adds, and against latency")
    latency = Table(*latency_rows(report))
    parts: list[tuple[str, list[Part]]] = [
        ("", [Words(failed, "failed"), results]),
        ("How sure is it?", [Words(sure, "points")]),
        ("Learning rates", [_rates(report)] if report.sweep else []),
        ("Accuracy against cost", [Figures([drawing], columns=1)]),
        ("Latency of one picture", [
            *([latency] if latency.rows else []), *([Words(report.latency, "list")] if report.latency else []),
        ]),
        ("Where two models differ most", [Words([view.lead]), view.figures] if view else []),
        ("What could not be used", [Words(report.lines, "list")] if report.lines else []),
        ("How it was made", [Facts(facts(report))]),
        ("How to get it again", [Command(command_line())]),
        ("How to read it", [Words([note.replace("`", "") for note in notes(report)], "list")]),
    ]  # fmt: skip
    return [Section(title, content) for title, content in parts if content]


def _rates(report: Report) -> Table:
    heads, rows = sweep_rows(report)
    best = [(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell.endswith("*")]
    return Table(heads, [[cell.rstrip("*") for cell in row] for row in rows], best=best)
