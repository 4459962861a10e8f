"""A page of every part: it is whole, escaped, needs nothing else, and shows pictures to who cannot see them."""

import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="needs dualvit[report]")

from dualvit.report.page import Command, Facts, Figure, Figures, Page, Section, Table, Words, inline

SVG = b'<?xml version="1.0"?><svg width="9" viewBox="0 0 9 9"><defs><path id="a"/></defs><use href="#a"/></svg>'


class Tags(HTMLParser):
    """Collects elements with their attributes, and whether they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.seen if name == tag]


@pytest.fixture(scope="module")
def tags():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2), (200, 10, 10)).save(buffer, "PNG")
    parts = [
        Words(["one <b>"]), Words(["two"], "list"), Words(["three"], "failed"),
        Table(["name", "score"], [["<i>", "0.5"], ["b", "0.7"]], front=["<i>"], best=[(1, 1)], note="& so on"),
        Facts([("seed", "0")]), Facts([("lr", "0.1")], folded="all settings"),
        Figures([Figure("a <picture>", buffer.getvalue(), below=["left", "right"]), Figure("", SVG, "a curve"),
                 Figure("", SVG.replace(b"9 9", b"8 8"), "another")], legend=[("found", "2px solid red")]),
        Command("dualvit bench --models 'a b'"),
    ]  # fmt: skip
    page = Page("dualvit bench", "<title>", "It & that.", [("1.5", "tiles")], [Section("All", parts), Section("", [])])
    return Tags(page.html()), page.html()


def test_every_part_is_there_and_no_name_is_markup(tags):
    found, text = tags
    assert {"b", "i", "picture", "script", "link"}.isdisjoint({name for name, _ in found.seen})
    assert "<h1>&lt;title&gt;</h1>" in text and "It &amp; that." in text and "one &lt;b&gt;" in text
    assert len(found.all("h2")) == 1
    assert [attrs.get("class") for attrs in found.all("tr")] == [None, "front", None]
    assert [attrs.get("class") for attrs in found.all("td")] == [None, None, None, "best"]
    assert len(found.all("dl")) == 2 and len(found.all("details")) == 1
    assert "dualvit bench --models &#39;a b&#39;" in text


def test_it_needs_nothing_else_in_the_light_in_the_dark_and_on_paper(tags):
    found, text = tags
    loads = [value for _, attrs in found.seen for name, value in attrs.items() if name in ("src", "href")]
    assert len(loads) == 3 and all(re.match(r"data:image/png;base64,|#[0-9a-f]{8}-a$", one) for one in loads)
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert found.all("meta")[1]["content"] == "width=device-width, initial-scale=1"


def test_each_picture_says_what_it_shows(tags):
    found, _ = tags
    assert [one["alt"] for one in found.all("img")] == ["a <picture>"]
    assert [one["aria-label"] for one in found.all("svg")] == ["a curve", "another"]


def test_two_drawings_do_not_share_names():
    pages = [inline(svg, "x") for svg in (SVG, SVG.replace(b"9 9", b"8 8"))]
    ids = [re.search(r'id="([^"]+)"', page).group(1) for page in pages]
    assert ids[0] != ids[1] and all(f'href="#{own}"' in page for own, page in zip(ids, pages, strict=True))


def test_a_page_is_written_whole(tmp_path):
    file = Page("dualvit bench", "t", "r").write(tmp_path)
    assert [file] == list(tmp_path.iterdir()) and "<h1>t</h1>" in file.read_text()
