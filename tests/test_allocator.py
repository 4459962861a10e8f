"""Freed memory stays with the process once it is asked to, and goes back when it is given."""

import subprocess
import sys

import pytest

CODE = """
import torch
from pathlib import Path
from dualvit.allocator import give_back, keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def after_freeing(size=100 << 20):
    before = resident()
    block = torch.ones(size // 4)
    assert resident() - before > size // 2
    del block
    return resident() - before

assert after_freeing() < 20 << 20
assert keep_freed_memory()
assert after_freeing() > 80 << 20
give_back()
assert after_freeing() > 80 << 20
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_memory_is_kept():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
