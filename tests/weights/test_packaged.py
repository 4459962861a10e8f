"""A package of weights becomes a file that timm reads: each entry in its place, or one line."""

import pytest
import timm
import torch
from safetensors.torch import load_file

from dualvit.errors import DualViTError
from dualvit.weights import packaged, sha256

NAME = "tf_efficientnet_lite0"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package like those of the index: the same entries in the same order, under names of its own."""
    torch.manual_seed(0)
    state = timm.create_model(NAME).state_dict()
    theirs = {f"_theirs.{number}.{key.rsplit('.', 1)[-1]}": value for number, (key, value) in enumerate(state.items())}
    folder = tmp_path / "site" / packaged.PACKAGES[NAME]
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it is not imported')\n")
    torch.save(theirs, folder / "models" / "lite0.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder / "models" / "lite0.pth", state, theirs


def test_each_entry_comes_to_its_place(package, tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "look", lambda name, state, source: "a palace")
    digest, seen = packaged.unpack(NAME, tmp_path / "out" / "lite0.safetensors")
    assert (digest, seen) == (sha256(tmp_path / "out" / "lite0.safetensors"), "a palace")
    written = load_file(tmp_path / "out" / "lite0.safetensors")
    assert list(written) and all(torch.equal(written[key], value) for key, value in package[1].items())
    timm.create_model(NAME, checkpoint_path=str(tmp_path / "out" / "lite0.safetensors"))


def test_weights_that_see_no_palace_are_refused(package, tmp_path):
    pytest.importorskip("sklearn", reason="the photograph comes with scikit-learn")
    with pytest.raises(DualViTError, match=r"sees class \d+ in a picture of a palace; reinstall"):
        packaged.unpack(NAME, tmp_path / "lite0.safetensors")
    assert not (tmp_path / "lite0.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda theirs: theirs.popitem(), r"has \d+ entries, and tf_efficientnet_lite0 has"),
        (lambda theirs: theirs.update({next(iter(theirs)): torch.zeros(1)}), r"has \(1,\) where tf_efficientnet_lite0"),
    ],
)
def test_other_weights_are_refused(package, tmp_path, change, words):
    file, _, theirs = package
    change(theirs)
    torch.save(theirs, file)
    with pytest.raises(DualViTError, match=words):
        packaged.unpack(NAME, tmp_path / "lite0.safetensors")


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(DualViTError, match="did you mean tf_efficientnet_lite"):
        packaged.unpack("tf_efficientnet_lite", tmp_path / "a.safetensors")
    with pytest.raises(DualViTError, match=r"pip install efficientnet-lite4-pytorch-model"):
        packaged.unpack("tf_efficientnet_lite4", tmp_path / "a.safetensors")
    with pytest.raises(DualViTError, match=r"end its name in \.safetensors"):
        packaged.unpack(NAME, tmp_path / "a.pth")
