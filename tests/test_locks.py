"""One writer at a time in a folder, however the one before ended."""

import os
import signal
import time

import pytest

from dualvit.locks import only_writer


def test_one_writer(tmp_path):
    words = rf"another dualvit compare \(process {os.getpid()}\) is at work in .*; wait for it, or give another place"
    with (
        only_writer(tmp_path, "dualvit compare"),
        pytest.raises(RuntimeError, match=words),
        only_writer(tmp_path, "dualvit recipe fit"),
    ):
        pass
    with only_writer(tmp_path / "new", "dualvit compare"):
        pass
    assert [file.name for file in tmp_path.rglob("*")] == ["new"]  # nothing is left behind


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share files")
def test_a_killed_process_holds_nothing_nor_do_its_children(tmp_path):
    read, write = os.pipe()
    holder = os.fork()
    if not holder:
        with only_writer(tmp_path, "dualvit compare"):
            child = os.fork()
            if child:
                os.write(write, str(child).encode())
            time.sleep(30)
            os._exit(0)
    child = int(os.read(read, 20))
    try:
        with pytest.raises(RuntimeError, match=rf"process {holder}\)"), only_writer(tmp_path, "dualvit compare"):
            pass
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with only_writer(tmp_path, "dualvit compare"):  # its child sleeps on
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot write to .*: Not a directory; give another place$"
    with pytest.raises(OSError, match=words), only_writer(tmp_path / "file" / "run", "dualvit compare"):
        pass
