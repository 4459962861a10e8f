"""The report as one HTML page that needs nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from dualvit.doctor.findings import FAULT, KINDS, WARNING, Report
from dualvit.files import write_atomic, write_json
from dualvit.locks import only_writer
from dualvit.pictures.palette import SERIES

TEMPLATE = Path(__file__).parent / "page.html.jinja"
LISTED = 200  # places of a kind; all are in the JSON
DOUBTED = {
    "located": "badly located",
    "swapped": "another class",
    "unseen": "nothing is seen there",
    "agreed": "seen, with little confidence",
    "overlooked": "without a label",
}


def page(
    report: Report,
    sheet: str | None = None,
    examples: Mapping[str, Sequence[str]] | None = None,
    doubts: Iterable[tuple[str, dict[str, Any]]] = (),
) -> str:
    """Return the page.

    Args:
        report: What was found.
        sheet: Training pictures with their labels, as `sheets.sheet` makes it.
        examples: Pictures of each kind of finding.
        doubts: Pictures of what a model doubts, each with the doubt.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    most = max((count for row in report.classes.values() for count in row.values()), default=0)
    return template.render(
        report=report, kinds=KINDS, groups=report.groups(), faults=report.count(FAULT),
        warnings=report.count(WARNING), listed=LISTED, sheet=sheet, examples=examples or {}, doubts=list(doubts),
        words=DOUBTED, series=SERIES, most=max(most, 1), peak=lambda one: max(*one.counts, 1),
    )  # fmt: skip


def write(report: Report, out: Path, *pictures: Any) -> Report:
    """Write doctor.html and doctor.json to a folder; return the report.

    Args:
        report: What was found.
        out: The folder.
        pictures: As `page` takes them.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: another command is at work in it.
    """
    with only_writer(out, "dualvit doctor"):
        write_atomic(out / "doctor.html", page(report, *pictures))
        write_json(out / "doctor.json", report.plain())
    return report
