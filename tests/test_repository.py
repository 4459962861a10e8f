"""What stands beside the code agrees with it: versions, citation, workflow, hooks, figures."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import dualvit

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIGURES = sorted((ROOT / "docs/figures").glob("pathways-*"))


def test_one_version_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == dualvit.__version__
    assert f"## {dualvit.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_citation_is_the_paper_that_the_source_names():
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    arxiv = re.search(r"arXiv (\d{4}\.\d{5})", (ROOT / "src/dualvit/models/dual_vit.py").read_text())
    assert arxiv[1] in paper["identifiers"][0]["value"]
    assert arxiv[1] in PROJECT["urls"]["Paper"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yao", "Li", "Pan", "Wang", "Zhang", "Mei"]


def test_oldest_versions_are_those_of_pyproject():
    command = [sys.executable, ROOT / ".github/oldest.py"]
    pins = dict(line.split("==") for line in subprocess.check_output(command, text=True).splitlines())
    assert set(pins) == {"torch", "torchvision", "timm", "lightning", "ultralytics"}
    assert f"OLDEST := {pins['ultralytics']}\n" in (ROOT / "Makefile").read_text()
    assert f"torch>={pins['torch']}" in PROJECT["dependencies"]


def test_workflow_has_each_python_and_the_jobs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    classified = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3" in line]
    assert workflow["jobs"]["newest"]["strategy"]["matrix"]["python"] == classified
    assert set(workflow["jobs"]) == {"newest", "unconstrained", "oldest", "core", "docs", "wheel", "audit"}
    for job in workflow["jobs"].values():
        for path in re.findall(r"tests/\w+|\.github/\w+\.py", str(job["steps"])):
            assert (ROOT / path).exists()


@pytest.mark.parametrize("file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.stem)
def test_issue_forms_are_complete(file):
    form = yaml.safe_load(file.read_text())
    if file.stem == "config":
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 1


def test_hooks_run_what_make_lint_runs():
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(BIN)/{command}" in lint


def test_package_says_that_it_is_typed():
    assert (ROOT / "src/dualvit/py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_figures_are_small():
    assert [file.name for file in FIGURES] == [f"pathways-{t}.{e}" for t in ("dark", "light") for e in ("png", "svg")]
    assert all(file.stat().st_size < 150_000 for file in FIGURES)


def test_figure_has_the_numbers_of_the_network():
    text = (ROOT / "docs/figures/pathways.py").read_text()
    config = dualvit.models.dual_vit.CONFIGS["dualvit_s"]
    stages = re.findall(r'Stage\([\d., ]+"(dual|merge)", (\d+), (\d+), (\d+),', text)
    assert [int(blocks) for _, blocks, _, _ in stages] == list(config.depths)
    assert [int(channels) for *_, channels in stages] == list(config.dims)
    assert [int(side) for _, _, side, _ in stages] == [56, 28, 14, 7]
    assert [kind for kind, *_ in stages] == ["dual"] * config.dual_stages + ["merge"] * (4 - config.dual_stages)
