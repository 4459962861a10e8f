"""Pictures by folder: what is found, what is kept, and what each mistake says."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.data.images import Pictures, read_folders, training_transform, validation_transform


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for label, value in (("10", 200), ("9", 50)):
            (tmp_path / split / label).mkdir(parents=True)
            for index, size in enumerate([(40, 30), (30, 40), (20, 20)]):
                Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(
                    tmp_path / split / label / f"{index}.png"
                )
    return tmp_path


def test_listing(root):
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "9" / "notes.txt").write_text("no picture")
    (root / "train" / "empty").mkdir()
    data = read_folders(root)
    assert data.classes == ("10", "9")
    assert [label for _, label in data.train] == [0, 0, 0, 1, 1, 1]
    assert len(data.val) == 6


def test_mistakes(root):
    with pytest.raises(FileNotFoundError, match="no data set at"):
        read_folders(root / "absent")
    (root / "val" / "9").rename(root / "val" / "8")
    with pytest.raises(ValueError, match="class '8' is in val but not in train"):
        read_folders(root)
    (root / "val" / "8").rename(root / "aside")
    with pytest.raises(ValueError, match="class '9' is in train but not in val"):
        read_folders(root)
    for file in (root / "val").glob("*/*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no images in .*val"):
        read_folders(root)


def test_one_class(root):
    for split in ("train", "val"):
        for file in (root / split / "9").iterdir():
            file.unlink()
    with pytest.raises(ValueError, match="only one class, '10'"):
        read_folders(root)


def test_kept_and_decoded_are_the_same(root):
    samples = read_folders(root).train
    kept, decoded = (Pictures(samples, 24, validation_transform(16), memory) for memory in (1 << 20, 0))
    assert kept.kept is not None and decoded.kept is None
    assert [tuple(image.shape) for image in kept.kept[:3]] == [(3, 32, 24), (3, 24, 32), (3, 20, 20)]
    for index in range(len(samples)):
        image, label = kept[index]
        assert image.shape == (3, 16, 16) and image.dtype == torch.float32
        assert torch.equal(image, decoded[index][0])
        assert label == decoded[index][1]


def test_normalisation(root):
    """A grey of 200 is ((200 / 255) - mean) / std in each channel."""
    image, _ = Pictures(read_folders(root).val, 24, validation_transform(16))[0]
    expected = (200 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(image.mean((1, 2)), expected, atol=1e-4)
    plain = training_transform(16, 1.0, 0.0, 0.0)
    image, _ = Pictures(read_folders(root).val, 24, plain)[0]
    assert image.shape == (3, 16, 16)
    assert torch.allclose(image.mean((1, 2)), expected, atol=1e-4)


def test_a_broken_picture_is_named(root):
    (root / "train" / "9" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read the picture .*9/0.png"):
        Pictures(read_folders(root).train, 24, validation_transform(16))
