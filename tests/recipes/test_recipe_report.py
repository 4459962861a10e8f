"""The page of a run: from a finished one, of the best and the worst pictures, and never in the way of the run."""

import re
import shutil

import pytest

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from tiny_runs import recipe

from dualvit.recipes import run
from dualvit.recipes.report import asked, training_of, write_report


@pytest.fixture(scope="module")
def finished(root, straight, tmp_path_factory):
    """A finished run, opened again."""
    out = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(straight, out)
    return run.fit(recipe(root), out), out


def test_the_page_of_a_finished_run(finished, root):
    task, out = finished
    page = write_report(task, out).read_text()
    best = run.best_row(task)
    assert f"dualvit_n on {root.name}" in page
    assert f"top-1 of best.ckpt: {100 * best['top1']:.1f} % on the validation pictures" in page
    assert page.count('src="data:image/jpeg;base64,') == 13  # five worst and five best of ten, three explained
    assert "each of 10 had a prediction" in page and "What could not be used" not in page
    assert "<dt>network.drop_path</dt><dd>0.2</dd>" in page and "<dt>versions</dt>" in page
    assert len(re.findall("<svg ", page)) == 2
    caption = r"\.\w+: (?:bright|dark) [01]\.\d\d, by (?:relevance|layercam) \(logit per pixel\)"
    assert len(re.findall(caption, page)) >= 3


def test_what_is_asked_is_what_was_validated(finished):
    task, out = finished
    told = asked(task, task.trainer.datamodule, out / "best.ckpt")
    right = sum(max(one.best, key=one.best.get) == one.name for one in told.answers)
    assert right / len(told.answers) == pytest.approx(run.best_row(task)["top1"])
    assert {one.name for one in told.answers} == {"bright", "dark"}


def test_without_its_checkpoint_or_a_place_to_write_it_is_a_line(finished, tmp_path, capsys):
    task, _ = finished
    assert training_of(task, tmp_path).lines[0] == "No predictions are shown: there is no best.ckpt."
    (tmp_path / "file").write_text("")
    assert write_report(task, tmp_path / "file") is None
    said = capsys.readouterr().err
    assert said.startswith("warning: report.html was not written: cannot write to") and said.count("\n") == 1
