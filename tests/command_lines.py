"""What the commands of this repository understand: command lines are checked, and not run."""

import argparse
import io
import re
import runpy
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import typer
import yaml
from torch.distributed.run import get_args_parser as torchrun_parser
from ultralytics import cfg

from dualvit.compare import reading
from dualvit.names import unknown_name
from dualvit.recipes.checks import require_known
from dualvit.recipes.config import load_recipe
from dualvit.yolo.patches import find_yaml
from dualvit.yolo.stock import derive
from dualvit.yolo.yaml import OPTIONS
from dualvit_cli import app

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = re.compile(r"[A-Z_]+")  # of a value that the reader gives
THEIRS = {"tensorboard": "--logdir", "pytest": "-m"}  # programs of others, and the options that the documents use


class Understood(Exception):
    """Raised by a script once it has read its options."""


def understand(words, whole=True):
    """Check a command line.

    Args:
        words: As a shell hands them on.
        whole: Whether required arguments must be there; a sentence may leave them out.

    Raises:
        ValueError: there is no such program, command, option or setting, or a value is wrong.
        FileNotFoundError: there is no such recipe or file.
    """
    program, *rest = words[: words.index(">")] if ">" in words else words
    if re.fullmatch(r"[A-Z_0-9]+=.*", program) or program == "srun":  # a variable for this command alone
        understand(rest, whole)
    elif program == "torchrun":
        found = _argparse(torchrun_parser().parse_args, rest)
        understand(["python", "-m", found.training_script, *found.training_script_args], whole)
    elif program.endswith("python") and rest[0] == "-m":
        understand(rest[1:], whole)
    elif program == "python" and rest[0] == "-c":
        compile(rest[1], program, "exec")
    elif program == "python":
        _script(ROOT / rest[0], rest[1:])
    elif program == "make":
        for target in rest:
            _known("target", target, re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    elif program == "pip":
        extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
        for extra in re.findall(r"\[(\w+)\]", " ".join(rest)):
            _known("extra", extra, extras)
    elif program in THEIRS:
        for option in (word for word in rest if word.startswith("-")):
            _known("option", option, [THEIRS[program]])
    else:
        _known("program", program, ["dualvit"])
        _dualvit(rest, whole)


def _known(kind, name, known):
    if name not in known:
        raise ValueError(unknown_name(kind, name, known))


def _argparse(parse, words):
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse(words)
    except SystemExit:
        raise ValueError(said.getvalue().splitlines()[-1]) from None


def _script(file, words):
    """Check the options of a script, which is stopped once it has read them."""
    if not file.is_file():
        raise FileNotFoundError(f"no script at {file}")
    real = argparse.ArgumentParser.parse_args

    def parse_args(parser, *_, **__):
        _argparse(lambda given: real(parser, given), words)
        raise Understood

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.syspath_prepend(file.parent)  # as Python does
        with pytest.raises(Understood):
            runpy.run_path(str(file), run_name="__main__")


def _dualvit(words, whole):
    command, path = typer.main.get_command(app), []
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        _known("command", words[0], command.commands)
        path, words = [*path, words[0]], words[1:]
        command = command.commands[path[-1]]
    if path == ["yolo"]:
        _yolo(words)
        return
    if hasattr(command, "commands"):  # a sentence speaks of the group
        return
    try:
        given = command.make_context(path[-1], list(words), resilient_parsing=not whole).params
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(error.format_message()) from None
    recipe = given.get("recipe")
    if recipe and not recipe.endswith(".yaml") and not PLACEHOLDER.fullmatch(recipe):
        require_known(load_recipe(recipe, [c for c in given["changes"] or () if "NAME" not in c]))
    if path == ["compare"] and given.get("experiment") and not given["template"]:
        file = ROOT / given["experiment"]
        reading.load(file if file.is_file() else given["experiment"], given["changes"] or ())


def _yolo(words):
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for word in words:
        if "=" not in word:
            _known("task or mode", word, [*cfg.TASKS, *cfg.MODES, "help", "cfg", "TASK", "MODE"])
    for key in given:
        _known("setting", key, [*cfg.DEFAULT_CFG_DICT, *OPTIONS])
    try:
        cfg.get_cfg(
            cfg.DEFAULT_CFG_DICT, {key: yaml.safe_load(value) for key, value in given.items() if key not in OPTIONS}
        )
    except TypeError as error:
        raise ValueError(str(error)) from None
    if given.get("model", "").endswith(".yaml") and not (find_yaml(given["model"]) or derive(given["model"])):
        raise FileNotFoundError(f"no model YAML {given['model']}")
