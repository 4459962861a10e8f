"""What an experiment's folder shows in the end: the report, and the pictures on which two models differ most."""

from dataclasses import replace

from rich.console import Console

from dualvit.compare.differences import differences
from dualvit.compare.engine import DataSet
from dualvit.compare.experiment import Experiment
from dualvit.compare.report import Report, write_report
from dualvit.compare.scenes import View, drawn
from dualvit.files import write_atomic, write_json

PICTURES = ("differences.png", "differences.json")


def report_all(experiment: Experiment, data: DataSet, report: Report, console: Console) -> None:
    """Write the report, differences.json and differences.png; what cannot be used of predictions is a line each."""
    view, lines = _differences(experiment, data, report)
    write_report(replace(report, lines=lines), experiment.output, console, view)
    for line in lines:
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)


def _differences(experiment: Experiment, data: DataSet, report: Report) -> tuple[View | None, list[str]]:
    rows = sorted(report.rows, key=lambda row: (row.label == experiment.null_label, -row.accuracy))
    others = [row.label for row in rows if not row.reference]  # the null row is the last
    if not others:
        return None, []
    scene, lines = differences(experiment, data, report.reference, others)
    for name in PICTURES:  # of an earlier report, which may have had other models
        (experiment.output / name).unlink(missing_ok=True)
    if scene is None:
        return None, lines
    write_json(experiment.output / "differences.json", scene.differences.plain())
    picture, view, further = drawn(scene)
    if picture is not None:
        write_atomic(experiment.output / "differences.png", picture)
    return view, [*lines, *further]
