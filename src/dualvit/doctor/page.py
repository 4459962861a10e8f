"""The report as one HTML page that needs nothing else."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dualvit.command import command_line
from dualvit.doctor.findings import FAULT, KINDS, WARNING, Report
from dualvit.files import write_atomic, write_json
from dualvit.locks import only_writer
from dualvit.report.page import Figure, Figures, rendered

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
    most = max((count for row in report.classes.values() for count in row.values()), default=0)
    return rendered(
        TEMPLATE, report=report, kinds=KINDS, groups=report.groups(), faults=report.count(FAULT),
        warnings=report.count(WARNING), listed=LISTED, sheet=sheet, examples=examples or {},
        doubtful=Figures([_doubtful(*one) for one in doubts], least=9, columns=5), most=max(most, 1),
        peak=lambda one: max(*one.counts, 1), command=command_line(),
    )  # fmt: skip


def _doubtful(picture: str, doubt: dict[str, Any]) -> Figure:
    """A picture of a label that a model doubts, with what it sees there."""
    words = f"{doubt['confidence']:.3f} {DOUBTED[doubt['kind']]}"
    words += f": {doubt['label']}" if doubt["label"] else ""
    words += f", model: {doubt['sees']}" if doubt["sees"] and doubt["sees"] != doubt["label"] else ""
    place = str(doubt["place"] or doubt["file"])
    return Figure(place, base64.b64decode(picture.partition(",")[2]), f"{place}: {words}", [words])


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
