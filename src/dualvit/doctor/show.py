"""What comes after the examination: a model's doubts, pictures, and the page."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualvit.doctor.findings import Report
from dualvit.doctor.page import write
from dualvit.doctor.run import Examination


@dataclass(frozen=True)
class Wanted:
    """What a report shall have.

    Attributes:
        out: Folder of the page.
        recipe: Whose augmentation the sheet shows; None takes one for small sets.
        changes: Of its settings.
        sheets: Pictures on the sheet; 0 draws no pictures at all.
        model: That ranks labels; or none.
        image_size: The longer side at which the model sees a picture; None takes the size that it was trained at.
    """

    out: Path
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    sheets: int = 12
    model: Path | None = None
    image_size: int | None = None


def finish(examination: Examination, wanted: Wanted, progress: Any) -> Report:
    """Ask the model, draw the pictures, and write the page.

    Args:
        examination: Of the data set.
        wanted: What the report shall have.
        progress: Is told how many pictures the model has seen, and of how many.

    Raises:
        ValueError: the model cannot be used, or the recipe.
        OSError: the folder cannot be written.
    """
    report, sheet, pictures = examination.report, None, {}
    if wanted.model is not None:
        from dualvit.doctor.model import doubts_of, open_witness

        witness = open_witness(wanted.model, wanted.image_size)
        doubts = doubts_of(witness, examination.data, examination.readable(), progress)
        report = replace(report, doubts=doubts)
    if wanted.sheets:
        from dualvit.doctor import sheets

        pictures = sheets.examples(examination)
        if importlib.util.find_spec("lightning") is None:
            report = replace(report, notes=(*report.notes, "the sheet of labels needs dualvit[recipes]"))
        else:
            sheet = sheets.sheet(examination, wanted.recipe, wanted.changes, wanted.sheets)
        return write(report, wanted.out, sheet, pictures, sheets.doubted(report))
    return write(report, wanted.out)
