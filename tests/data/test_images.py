"""Pictures by folder: which are listed, and what each mistake says."""

import numpy as np
import pytest
from PIL import Image

from dualvit.data.images import open_rgb, read_folders


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


def test_a_broken_picture_is_named(root):
    (root / "train" / "9" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read the picture .*9/0.png"):
        open_rgb(read_folders(root).train[3][0])
