"""One page that needs nothing else: its parts as plain types, and the template that shows them.

A page has sections, and a section has parts: words, tables, facts, figures, a command. Each command that ends in a page
makes these. One with a page of its own kind extends `page.html.jinja`, and shares its style and the macros of
`parts.html.jinja`.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from markupsafe import Markup, escape

from dualvit.files import write_atomic
from dualvit.pictures.palette import ACCENT, INK, LINE, PAPER, SERIES, SOFT

HERE = Path(__file__).parent
NAME = "report.html"
# What a picture in SVG is drawn in, and the name by which the page has it, in the light and in the dark.
THEMED = {INK: "ink", SOFT: "soft", LINE: "line", PAPER: "paper", ACCENT: "mark", SERIES[0]: "blue", SERIES[2]: "green"}
READABLE = 0.75  # pixels per point below which the letters of a drawing are too small; it is moved sideways then


@dataclass(frozen=True)
class Words:
    """Paragraphs, or the lines of a list.

    Attributes:
        lines: One each.
        look: plain; points, a list; soft and list, the same for what explains; or failed, for what went wrong.
    """

    kind: ClassVar[str] = "words"
    lines: Sequence[str]
    look: str = "soft"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        heads: A word for each column.
        rows: The cells, as a reader sees them.
        front: First cells of the rows that stand out.
        best: Cells that stand out, each as its row and its column.
        note: Below the table.
    """

    kind: ClassVar[str] = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    front: Sequence[str] = ()
    best: Sequence[tuple[int, int]] = ()
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with their values.

    Attributes:
        pairs: Both as a reader sees them.
        folded: If not empty, the facts are hidden behind these words until a reader opens them.
    """

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        title: Above it.
        content: A file of PNG, JPEG or SVG.
        alt: What it shows, for who cannot see it; the title if left out.
        below: Words below it, side by side.
    """

    title: str
    content: bytes
    alt: str = ""
    below: Sequence[str] = ()

    @property
    def vector(self) -> bool:
        """Whether it is drawn in SVG."""
        return not self.content.startswith((b"\x89PNG", b"\xff\xd8"))

    @property
    def words(self) -> str:
        """What it shows."""
        return self.alt or self.title

    @property
    def source(self) -> str:
        """The file of a PNG or a JPEG as an address that holds all of it."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"

    @property
    def svg(self) -> Markup:
        """The drawing as a part of the page."""
        return inline(self.content, self.words)


@dataclass(frozen=True)
class Figures:
    """Pictures in rows, as many beside each other as there is room for.

    Attributes:
        figures: The pictures.
        least: How wide each is at least, in rem, if the page is as wide.
        columns: How many stand beside each other at most.
        legend: Words, and how the line that they explain is drawn, in CSS.
    """

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    least: int = 20
    columns: int = 3
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Command:
    """What a reader can type."""

    kind: ClassVar[str] = "command"
    text: str


Part = Words | Table | Facts | Figures | Command


@dataclass(frozen=True)
class Section:
    """A heading, and what is below it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    Attributes:
        what: What made it, such as "dualvit bench".
        title: Its heading.
        result: What came out, in a sentence.
        tiles: A few numbers, each with its words.
        sections: The rest.
    """

    what: str
    title: str
    result: str
    tiles: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the page as one file.

        Example:
            >>> "<h1>raccoons</h1>" in Page("dualvit bench", "raccoons", "It went well.").html()
            True
        """
        return rendered(HERE / "page.html.jinja", page=self)

    def write(self, folder: Path) -> Path:
        """Write report.html whole into a folder; return the file."""
        write_atomic(folder / NAME, self.html())
        return folder / NAME


def rendered(template: Path, **values: Any) -> str:
    """Return what a template shows of values; it may extend `report/page.html.jinja`, and import its parts."""
    ours = PrefixLoader({"report": FileSystemLoader(HERE)})
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
        loader=ChoiceLoader([ours, FileSystemLoader(template.parent)]),
    )  # fmt: skip
    return environment.get_template(template.name).render(**values)


def inline(svg: bytes | str, words: str) -> Markup:
    """Return an SVG file as an element of a page, in the page's colours, light or dark.

    Args:
        svg: The file.
        words: What it shows, for who cannot see it.

    Example:
        >>> print(inline(b'<?xml?><svg width="9"><path style="fill: #ffffff"/></svg>', "a <dot>"))
        <svg role="img" aria-label="a &lt;dot&gt;"><path style="fill: var(--paper)"/></svg>
    """
    text = svg.decode() if isinstance(svg, bytes) else svg
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :].strip(), flags=re.DOTALL)
    head, end, body = text.partition(">")
    head = re.sub(r'\s(width|height|version|xmlns)="[^"]*"', "", head)
    own = sha256(text.encode()).hexdigest()[:8]  # two drawings on a page have names of their own
    body = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{own}-", body)
    for colour, name in THEMED.items():
        body = body.replace(colour, f"var(--{name})")
    size = re.search(r'viewBox="\S+ \S+ (\S+)', head)
    least = f' style="min-width: {round(READABLE * float(size[1]))}px"' if size else ""
    return Markup(head.replace("<svg", f'<svg role="img" aria-label="{escape(words)}"{least}', 1) + end + body)
