"""Checkpoints that are broken, hostile or of another model are one clear line, and do no harm."""

import pytest
import timm
import torch

from dualvit.weights import CheckpointError, convert, load_backbone, read_checkpoint

NAME = "dualvit_n"


class Metric:
    """Stands for nothing: a class that a checkpoint must not bring along."""


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(CheckpointError, match="no checkpoint at") as error:
        read_checkpoint(tmp_path / name)
    assert one_line(error)
    with pytest.raises(FileNotFoundError):
        timm.create_model(NAME, checkpoint_path=str(tmp_path / name))


@pytest.mark.parametrize("form", ["plain.pth", "trainer.pth.tar", "published.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(files, tmp_path, form, share):
    whole = (files / form).read_bytes()
    path = tmp_path / form
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="truncated") as error:
        read_checkpoint(path)
    assert one_line(error)
    assert path.name in str(error.value)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(4096)])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_something_else_than_a_checkpoint(tmp_path, content, suffix):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert one_line(error)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": "text"}}])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(tmp_path / "odd.pth")
    assert one_line(error)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside weights"])
def test_code_in_a_pickle_is_not_run(state, tmp_path, legacy, beside, published):
    victim, path = tmp_path / "written", tmp_path / "hostile.pth"
    content = {"state_dict": published(state), "extra": Hostile(victim)} if beside else Hostile(victim)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="wants to run code") as error:
        read_checkpoint(path)
    assert one_line(error)
    with pytest.raises(RuntimeError):
        timm.create_model(NAME, checkpoint_path=str(path))
    with pytest.raises(CheckpointError):
        convert(path, tmp_path / "out.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["hostile.pth"]


def test_a_foreign_class_in_a_pickle_is_refused(state, tmp_path):
    torch.save({"state_dict": state, "extra": Metric()}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="wants to run code"):
        read_checkpoint(tmp_path / "foreign.pth")


@pytest.mark.parametrize("form", ["plain.pth", "native.pth"])
def test_a_checkpoint_of_another_size_is_named(files, form):
    with pytest.raises(CheckpointError, match=f"it is a checkpoint of {NAME}") as error:
        load_backbone(timm.create_model("dualvit_t", features_only=True), files / form, timm.create_model("dualvit_t"))
    assert one_line(error)
    with pytest.raises(ValueError, match="checkpoint of another model") as error:
        timm.create_model("dualvit_t", checkpoint_path=str(files / form))
    assert one_line(error)


def test_pretrained_without_a_file_raises_and_downloads_nothing(network_attempts):
    before = len(network_attempts)
    with pytest.raises(RuntimeError, match="No pretrained weights exist for dualvit_s"):
        timm.create_model("dualvit_s", pretrained=True)
    assert len(network_attempts) == before


def test_the_guard_of_these_tests_holds(network_attempts):
    import socket

    with pytest.raises(RuntimeError, match="offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert network_attempts.pop() == "192.0.2.1"
