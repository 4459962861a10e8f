"""Files are old or new, never a part."""

import json
import os

import pytest

from dualvit.files import read_json, write_atomic, write_json


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "result.json"
    write_json(target, {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(target, {"a": 2})
    assert read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"loss": float("nan"), "row": (1, float("inf"))})
    assert read_json(tmp_path / "a.json") == {"loss": None, "row": [1, None]}
    write_atomic(tmp_path / "b.json", '{"cut": ')
    assert read_json(tmp_path / "b.json") is None
    assert read_json(tmp_path / "absent.json") is None


def test_names_that_are_no_utf8_can_be_written(tmp_path):
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    write_atomic(tmp_path / "text", name)
    assert (tmp_path / "text").read_text() == "caf\\udce9.jpg"
    write_json(tmp_path / "json", {"file": name})
    assert json.loads((tmp_path / "json").read_text()) == {"file": name}
