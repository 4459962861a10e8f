"""The command that is shown as the one to type again."""

import shlex
import sys

from dualvit.command import COMMAND_ENV, command_line, typed


def test_what_is_shown_is_what_was_given(monkeypatch):
    words = ["/v/bin/python", "-u", "/v/bin/dualvit", "compare", "my experiment.yaml", "--set", "seeds=[0, 1]"]
    monkeypatch.setattr(sys, "orig_argv", words)
    assert shlex.split(command_line()) == ["dualvit", *words[3:]]
    assert typed(["python", "-W", "ignore", "a b.py"]) == "python -W ignore 'a b.py'"
    monkeypatch.setenv(COMMAND_ENV, "dualvit yolo train")
    assert command_line() == "dualvit yolo train"
