"""What a command says while it works: lines in a log, a bar on a terminal, nothing of it on stdout."""

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.progress import TextColumn

import dualvit
from dualvit import progress
from dualvit.progress import shown, working

SOURCE = Path(dualvit.__file__).parents[1]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0.05)
    monkeypatch.setattr(progress, "EVERY", 0.2)


def test_a_line_soon_and_then_one_at_a_time_in_a_log(quick, capsys):
    with working("drawing") as report:
        time.sleep(0.12)
        report(3, 8)
        time.sleep(0.2)
        report.begin("checking")
        time.sleep(0.2)
        report(8, 8)
        time.sleep(0.2)  # what is finished has no more lines
    out, err = capsys.readouterr()
    assert not out
    assert [re.sub(r"\d+ s", "0 s", line) for line in err.splitlines()] == [
        "drawing: 0 s", "drawing: 3 of 8, 0 s", "checking: 0 s"
    ]  # fmt: skip


def test_a_quick_command_says_nothing(capsys):
    with working("quick"):
        pass
    with shown(TextColumn("{task.description}")) as bars:
        bars.add_task("quick too")
    assert capsys.readouterr() == ("", "")


def test_lines_end_with_a_mistake(quick, capsys):
    with pytest.raises(ValueError, match="size"), working("drawing"):
        raise ValueError("size")
    time.sleep(0.2)
    assert not capsys.readouterr().err


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm", "COLUMNS": "100"}


def test_digits_say_within_seconds_what_they_do(tmp_path):
    code = "import sys; from dualvit_cli import main; sys.argv = ['dualvit', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "data", "digits", str(tmp_path / "digits")]
    start = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        first = process.stderr.readline()
        seconds = time.monotonic() - start
        process.kill()
    assert re.match(r"drawing 400 images, and single digits: [12] s", first)
    assert seconds < 4  # a start of Python included


def test_a_bar_on_a_terminal():
    code = """
import time
from dualvit_cli.shared import working
with working("drawing") as report:
    report(3, 8)
    time.sleep(0.3)
"""
    main, other = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stderr=other, stdout=other, env=ENVIRONMENT):
        os.close(other)
        said = b""
        try:
            while more := os.read(main, 1 << 16):
                said += more
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(main)
    assert b"drawing" in said and b"3/8" in said
    assert b"drawing: " not in said
