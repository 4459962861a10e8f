"""The report from made-up results: numbers arrive in each format, and the HTML needs nothing else."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from dualvit.compare.engine import DataSet
from dualvit.compare.reading import parse
from dualvit.compare.report import Failure, facts, html, markdown, summarise, table_rows, unlearned, write_report
from dualvit.compare.results import Cost, Costs, Latency, Result

pytest.importorskip("matplotlib", reason="needs dualvit[recipes]")


@pytest.fixture
def summary():
    raw = {
        "task": "classify", "data": "digits", "epochs": 2, "seeds": [0, 1, 2], "output": "runs/<b>mine",
        "models": ["slow", {"name": "fast", "label": "fast <1>"}, "none"],
    }  # fmt: skip
    machine = {"versions": {"torch": "2"}, "commit": "abc", "date": "2026-01-01", "hardware": "a machine", "threads": 2}
    cells = [
        Result(
            label=label, name=label, options={}, seed=seed, last=value + seed / 100, best=value + 0.05, best_epoch=1,
            metric="top1", epochs=[{"epoch": 2}], seconds=60.0, peak_memory=2**20 * 100, **machine,
        )
        for label, value in (("slow", 0.8), ("fast <1>", 0.7))
        for seed in (0, 1, 2)
    ]  # fmt: skip
    costs = {
        "slow": Cost(3_000_000, 2_000_000_000, Latency(20.0, 1.0, 30.0, 50)),
        "fast <1>": Cost(1_000_000, 100_000_000, Latency(2.0, 1.0, 3.0, 50)),
    }
    return summarise(parse(raw), DataSet("x", 10, 1500, 500), cells, Costs(models=costs, cuda=False, **machine))


def test_summary(summary):
    slow, fast = summary.rows
    assert (slow.accuracy, slow.spread) == pytest.approx((0.81, 0.01))
    assert summary.reference == "slow" and slow.reference and slow.difference is None
    assert fast.difference.mean == pytest.approx(-0.1)
    assert fast.pareto_macs and slow.pareto_macs
    assert len(summary.sentences) == 2
    assert summary.sentences[1].startswith("A true difference of less than 0.7 points would mostly go unseen")
    assert summary.sentences[0].startswith("fast <1> is 10.0 points below slow")


def test_a_report_is_readable(summary):
    head, slow, fast, *lines = str(summary).splitlines()
    assert head.split()[:3] == ["model", "top-1", "best"]
    assert slow.startswith("slow      81.0 ± 1.0  85.0  reference")
    assert fast.startswith("fast <1>  71.0 ± 1.0") and "-10.0 (" in fast
    assert lines == summary.sentences


def test_what_one_answer_for_everything_scores_is_said(summary):
    assert unlearned(summary.rows[1], 0.65) == ""
    assert unlearned(summary.rows[1], 0.705) == (
        "fast <1> learned nothing that counts (71.0, and one answer for everything scores 70.5), "
        "so its differences say nothing."
    )
    nothing = replace(summary.rows[1], accuracy=0.002)
    assert unlearned(nothing, 0.0) == "fast <1> learned nothing that counts (0.2), so its differences say nothing."


def test_the_null_row_differs_from_the_model_that_it_is(summary):
    again = replace(summary.rows[1], label="fast <1> (again)", against="fast <1>")
    heads, rows = table_rows(replace(summary, rows=[*summary.rows, again]))
    column = [row[heads.index("difference")] for row in rows]
    assert column[2].endswith("), to fast <1>") and "to fast" not in column[1]


def test_markdown(summary):
    text = markdown(summary)
    assert "| slow | 81.0 ± 1.0 | 85.0 | reference | 3 | 3.00 M | 2.00 G | 20.0 ms | 100 MiB | 1.0 min |" in text
    assert "6 of 9 done" in text
    assert "1500 pictures to train on, 500 to validate on" in text


def test_settings_say_what_is_set_alone(summary):
    assert "imports" not in dict(facts(summary))["settings"]
    summary.config["imports"] = ["mine", "yours"]
    assert "imports mine yours" in dict(facts(summary))["settings"]


def test_notes_name_a_line_that_is_there(summary):
    text = markdown(summary)
    assert "below" not in text[text.index("Multiply-adds are") :]
    (line,) = re.findall('the machine of "([^"]+)"', text)
    assert f"- {line}: a machine, batch 1" in text
    assert line in dict(facts(summary))


class Tags(HTMLParser):
    """Collects tags, what they load, and whether they are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.loads = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "hr", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_whole_and_escaped(summary):
    summary.failed.append(Failure("none seed 0", "broke <i>"))
    text = html(summary, "<?xml version='1.0'?>\n<!DOCTYPE svg>\n<svg><path/></svg>")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert {"table", "svg", "h1", "dl"} <= set(tags.seen)
    assert "b" not in tags.seen and "i" not in tags.seen
    assert "fast &lt;1&gt;" in text
    assert "none seed 0 failed: broke &lt;i&gt;" in text
    assert "<?xml" not in text


def test_files(summary, tmp_path):
    screen = io.StringIO()
    write_report(summary, tmp_path, Console(file=screen, width=60))
    assert all(len(line) <= 60 for line in screen.getvalue().splitlines()[:3])
    assert "81.0 ± 1.0" in screen.getvalue()
    text = (tmp_path / "report.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(link.startswith("#") for link in tags.loads), tags.loads
    assert not re.search(r"url\(\s*['\"]?http", text)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rows"][0]["label"] == "slow"
    assert results["config"]["epochs"] == 2
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1500
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert not list(tmp_path.glob("*.part"))


def test_labels_of_any_signs_come_out_as_they_are(summary, tmp_path, recwarn):
    labels = ["a $x$ and $ [/] [red]", "a_b *c* \\\\ | <b> & `d` 🚀" + " long" * 30]
    summary.rows[:] = [replace(row, label=label) for row, label in zip(summary.rows, labels, strict=True)]
    summary.failed.append(Failure("[/] seed 0", "broke $x$ | <i>"))
    screen = io.StringIO()
    write_report(summary, tmp_path, Console(file=screen, width=110))
    assert labels[0] in screen.getvalue() and "81.0 ± 1.0" in screen.getvalue() and "71.0 ± 1.0" in screen.getvalue()
    text = (tmp_path / "report.md").read_text()
    assert r"| a \$x\$ and \$ \[/\] \[red\] |" in text and r"| a_b \*c\* \\\\ \| \<b\> \& \`d\` 🚀 long" in text
    assert r"- failed: \[/\] seed 0: broke \$x\$ \| \<i\>" in text
    page = (tmp_path / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "b" not in tags.seen and "i" not in tags.seen
    assert "a_b *c* \\\\ | &lt;b&gt; &amp; `d` 🚀" in page
    assert not recwarn.list
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1500


def test_packaged_template():
    import dualvit.report

    assert (Path(dualvit.report.__file__).parent / "page.html.jinja").is_file()
