"""The command that this process was started by, as a reader can type it again."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND_ENV = "DUALVIT_COMMAND"  # of a process that another one started to share its work


def command_line() -> str:
    """Return the command, quoted for a shell."""
    return os.environ.get(COMMAND_ENV) or typed(sys.orig_argv)


def typed(words: Sequence[str]) -> str:
    """Return a process's arguments as they were typed: `dualvit` stands for its interpreter and its file.

    Example:
        >>> typed(["/venv/bin/python", "/venv/bin/dualvit", "compare", "my file.yaml"])
        "dualvit compare 'my file.yaml'"
        >>> typed(["python", "-m", "dualvit", "bench"]), typed(["/usr/bin/python3", "train.py"])
        ('dualvit bench', 'python3 train.py')
    """
    for index, word in enumerate(words[1:], 1):
        if word == "-m" and list(words[index + 1 : index + 2]) == ["dualvit"]:
            return shlex.join(["dualvit", *words[index + 2 :]])
        if not word.startswith("-"):
            if Path(word).stem == "dualvit":
                return shlex.join(["dualvit", *words[index + 1 :]])
            break
    return shlex.join([Path(words[0]).name, *words[1:]])
