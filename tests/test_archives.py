"""Damage is seen in any byte, and nothing else is taken for damage."""

import errno
import random

import pytest
import torch

from dualvit import archives
from dualvit.archives import DamagedError
from dualvit.files import atomic

CONTENT = {"weights": torch.arange(3000.0).reshape(30, 100), "rows": [1, {"name": "text"}]}


def same(found):
    return torch.equal(found["weights"], CONTENT["weights"]) and found["rows"] == CONTENT["rows"]


@pytest.fixture
def file(tmp_path):
    with atomic(tmp_path / "last.ckpt") as file:
        archives.save(CONTENT, file)
    return tmp_path / "last.ckpt"


def flips(content, count):
    rng = random.Random(0)
    for place in [
        *range(80),
        *range(len(content) - 700, len(content)),
        *(rng.randrange(len(content)) for _ in range(count)),
    ]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        yield flipped


def test_any_flip_and_any_cut_is_seen(file):
    assert same(archives.load(file)) and same(torch.load(file, weights_only=True))
    content = file.read_bytes()
    for changed in [
        *flips(content, 400),
        *(content[:size] for size in (0, 1, 99, *range(len(content) - 60, len(content)))),
    ]:
        file.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"last\.ckpt is damaged"):
            archives.load(file)


def test_of_what_torch_wrote_alone_a_flip_is_seen_or_changes_nothing(file):
    torch.save(CONTENT, file)
    content, seen, passed = file.read_bytes(), 0, 0
    for changed in flips(content, 400):
        file.write_bytes(changed)
        try:
            assert same(archives.load(file))
            passed += 1
        except DamagedError:
            seen += 1
    assert seen > 1.5 * passed > 0  # names, times and padding pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "x"), "Permission denied; make it readable"),
        (OSError(errno.EMFILE, "x"), "Too many open files; raise the limit of open files"),
        (OSError(errno.EIO, "x"), "Input/output error; make it readable"),
        (MemoryError(), "Cannot allocate memory; free memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "Cannot allocate memory; free memory"),
        (RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate"), "Cannot allocate memory; free memory"),
    ],
)
def test_what_is_no_damage(file, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match=rf"^cannot read .*last\.ckpt: {words}"):
        archives.load(file)


def test_a_directory_is_no_damage(tmp_path):
    with pytest.raises(OSError, match=r"^cannot read .*: Is a directory; make it readable$"):
        archives.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        archives.load(tmp_path / "absent")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("call", [1, 2, 5, 9])
def test_what_stops_a_save_comes_through(file, error, call):
    class Broken:
        def __init__(self, file):
            self.file, self.calls = file, 0

        def write(self, data):
            self.calls += 1
            if self.calls == call:
                raise error
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    before = file.read_bytes()
    with pytest.raises(type(error)) as caught, atomic(file) as out:
        archives.save(CONTENT, Broken(out))
    assert caught.value is error
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]
