"""The Chinese pages have the headings, commands, links and numbers of the English ones, in the same order."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHINESE = sorted((*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").rglob("*.zh-CN.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PUNCTUATION = re.compile(r"[\u3000-\u303f\uff00-\uffef]")  # full width, without spaces beside it


def english(page):
    return page.with_name(page.name.replace(".zh-CN", ""))


def code(page):
    """The blocks of code without their comments, which may be in the reader's language."""
    blocks = FENCE.findall(page.read_text())
    return [(kind, [re.sub(r"\s+# .*", "", line) for line in text.splitlines()]) for kind, text in blocks]


def sections(page):
    """The text of each section without code, in order, and the levels of the headings."""
    parts = re.split(r"^(#+) .+$", FENCE.sub("", page.read_text()), flags=re.M)
    return parts[1::2], parts[2::2]


def links(text):
    """Where a text leads; a page that has a Chinese form stands for it."""
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    return Counter("".join(pair).replace(".zh-CN", "") for pair in targets)


def spans(text):
    return Counter(re.findall(r"`([^`]+)`", text))


def numbers(text):
    """The numbers of a text outside of links and code; those of tables and of sentences alike."""
    plain = re.sub(r"\]\([^)]+\)|`[^`]+`|<[^>]+>", " ", PUNCTUATION.sub(" ", text))
    return Counter(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])", plain))


def test_the_pages_are_there():
    assert [page.name for page in CHINESE] == ["README.zh-CN.md", "quickstart.zh-CN.md"]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
class TestPage:
    def test_headings(self, page):
        assert sections(page)[0] == sections(english(page))[0]

    def test_code(self, page):
        assert code(page) == code(english(page))

    @pytest.mark.parametrize("what", [links, spans, numbers], ids=lambda what: what.__name__)
    def test_each_section_has_the_same(self, page, what):
        theirs, ours = sections(english(page))[1], sections(page)[1]
        for number, (there, here) in enumerate(zip(theirs, ours, strict=True)):
            assert what(here) == what(there), f"section {number}: {here[:80]}"

    def test_each_leads_to_the_other(self, page):
        line = f"[English]({english(page).name}) | [简体中文]({page.name})"
        assert page.read_text().splitlines()[2] == english(page).read_text().splitlines()[2] == line

    def test_a_paragraph_is_one_line(self, page):
        """A line break between Chinese characters would be shown as a space."""
        text = FENCE.sub("", page.read_text())
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]\n[\u3000-\u9fff\uff00-\uffef]", text)
