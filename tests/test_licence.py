"""docs/licence.md: which command imports AGPL code, worked out from the imports of all files."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGE = (ROOT / "docs/licence.md").read_text()
# Import YOLO for a cell or a model that asks for it.
PLUGS = {
    "dualvit.compare.engine", "dualvit.deploy.opening", "dualvit.deploy.sources", "dualvit.deploy.subjects",
    "dualvit.doctor.model", "dualvit.explain.opening",
}  # fmt: skip
GROUPS = {"recipe": "recipe.py", "data": "data.py", "yolo": "yolo.py", "demo": "data.py"}
FILES = {"eval": "classify.py", "probe": "classify.py", "token-labels": "classify.py", "convert": "models.py",
         "models": "models.py", "teacher": "models.py", "predict": "serve.py"}  # fmt: skip
NAMES = {"eval": "evaluate", "list": "list_recipes"}  # functions that are called otherwise than their command


@cache
def imports(name):
    """What a module imports, anywhere in its file; of a package's name, what its parents are as well."""
    return named(ast.parse(path.read_text()), name) if (path := file_of(name)) else set()


@cache
def file_of(name):
    base = SOURCE.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def named(tree, name):
    package = name if (SOURCE.joinpath(*name.split(".")) / "__init__.py").is_file() else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("dualvit", "ultralytics")}


def reached(first, plugs):
    """All modules that follow; `dualvit` and `dualvit.explain` import YOLO and its door only if asked for by name."""
    seen, rest = set(), set(first)
    while rest:
        name = rest.pop()
        seen.add(name)
        parents = {".".join(name.split(".")[:count]) for count in range(1, name.count(".") + 1)}
        after = imports(name) | parents if plugs or name not in PLUGS else set(parents)
        if name == "dualvit":
            after -= {"dualvit.yolo", "dualvit.yolo.YOLO"}
        if name == "dualvit.explain":
            after -= {"dualvit.explain.opening", "dualvit.explain.opening.open_subject"}
        rest |= after - seen
    return seen


def agpl(modules):
    return {name for name in modules if name.split(".")[0] == "ultralytics" or name.startswith("dualvit.yolo")}


def command(name):
    """The function of a command, and those of its file that it uses."""
    group, _, own = name.partition(" ")
    file = SOURCE / "dualvit_cli" / FILES.get(group, GROUPS.get(group, f"{group.replace('-', '_')}.py"))
    functions = {n.name: n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)}
    word = own or group
    rest, found = {NAMES.get(word, word.replace("-", "_"))}, {}
    while rest:
        one = rest.pop()
        found[one] = functions[one]
        rest |= ({n.id for n in ast.walk(functions[one]) if isinstance(n, ast.Name)} & functions.keys()) - found.keys()
    return list(found.values())


def rows():
    """Each command of the page's table with its answer."""
    for cell, answer in re.findall(r"^\| (`dualvit .+?) \| (.+) \|$", PAGE, re.M):
        first, *others = re.findall(r"`([^`]+)`", cell)
        group = first.split()[1:]
        yield " ".join(group), answer
        for other in others:
            yield " ".join([*group[:-1], other]), answer


def modules_of(name):
    return set().union(*(named(function, "dualvit_cli.shared") for function in command(name)))


@pytest.mark.parametrize(("name", "answer"), rows())
def test_the_table_is_what_the_imports_say(name, answer):
    first = modules_of(name)
    if answer == "never":
        assert agpl(reached(first, plugs=True)) == set()
    elif answer == "always":
        assert agpl(first)
    else:
        assert answer.startswith("if ")
        assert agpl(reached(first, plugs=True))
        assert not any(name.startswith("dualvit.yolo") for name in reached(first - agpl(first), plugs=False))


def test_the_table_has_every_command():
    typer = pytest.importorskip("typer")
    from dualvit_cli import app

    tree = typer.main.get_command(app).commands
    known = {name for name, one in tree.items() if not hasattr(one, "commands")}
    known |= {f"{group} {name}" for group, one in tree.items() if hasattr(one, "commands") for name in one.commands}
    assert {name for name, _ in rows()} == known


def test_no_module_of_those_commands_brings_ultralytics():
    """Also by ways that files do not show; in a process of its own."""
    pytest.importorskip("lightning", reason="needs dualvit[recipes]")
    modules = set().union(*(reached(modules_of(name), plugs=True) for name, answer in rows() if answer == "never"))
    files = sorted(name for name in modules if file_of(name))
    assert len(files) > 50
    code = f"import importlib, sys\nfor name in {files}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert agpl(loaded) == set()
    assert "dualvit.recipes.task" in loaded
