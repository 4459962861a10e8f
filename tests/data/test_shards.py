"""WebDataset shards: each sample once, shares of processes and workers, and what each mistake says."""

import io
import tarfile
from itertools import chain

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("webdataset", reason="needs dualvit[recipes]")

from dualvit.data.shards import ShardLoader, Shards, is_shards, read_classes


def first_pixel(image):
    return int(np.asarray(image)[0, 0, 0])


@pytest.fixture
def urls(tmp_path):
    """Four shards of five grey pictures, 0 to 19, of two classes."""
    for shard in range(4):
        write(tmp_path / f"s-{shard}.tar", range(5 * shard, 5 * shard + 5))
    return f"{tmp_path}/s-{{0..3}}.tar"


def write(path, greys, label=lambda grey: str(grey % 2), broken=()):
    with tarfile.open(path, "w") as tar:
        for grey in greys:
            buffer = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), grey, dtype=np.uint8)).save(buffer, "PNG")
            add(tar, f"{grey:03}.png", b"no picture" if grey in broken else buffer.getvalue())
            add(tar, f"{grey:03}.cls", label(grey).encode())


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def shards(urls, samples=None, batch=2, place=(0, 1), skip=None, seed=0):
    def refuse(line):
        raise AssertionError(line)

    return Shards(urls, first_pixel, 2, batch, seed, samples, 4, place, skip or refuse)


def greys(data):
    return [grey for grey, _ in data]


def test_roots():
    assert is_shards("s3/{000..099}.tar") and is_shards("pipe:curl -s https://host/1.tar")
    assert not is_shards("/data/imagenet")


def test_validation_sees_each_sample_once(urls):
    assert greys(shards(urls)) == list(range(20))
    assert [label for _, label in shards(urls)] == [0, 1] * 10
    parts = [greys(shards(urls, place=(rank, 3))) for rank in range(3)]
    assert sorted(chain.from_iterable(parts)) == list(range(20))


def test_an_epoch_is_shuffled_and_reproducible(urls):
    data = shards(urls, samples=20)
    first = greys(data)
    assert sorted(first) == list(range(20)) and first != list(range(20))
    assert greys(data) == first
    data.epoch = 1
    assert greys(data) != first
    assert greys(shards(urls, samples=20, seed=1)) != first


def test_processes_have_equal_shares(urls):
    parts = [greys(shards(urls, samples=20, place=(rank, 2))) for rank in range(2)]
    assert [len(part) for part in parts] == [10, 10]
    assert sorted(chain.from_iterable(parts)) == list(range(20))


def test_an_epoch_may_be_longer_than_the_shards(urls):
    assert len(greys(shards(urls, samples=50))) == 50
    assert set(greys(shards(urls, samples=50))) == set(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader(urls, workers):
    epoch = 0
    loader = ShardLoader(shards(urls, samples=20, batch=4), 4, workers, lambda: epoch, False)
    assert len(loader) == 5
    batches = [images.tolist() for images, _ in loader]
    assert [len(batch) for batch in batches] == [4] * 5
    epoch = 1
    assert [images.tolist() for images, _ in loader] != batches


def test_unreadable_pictures_are_noted(tmp_path):
    write(tmp_path / "a.tar", range(4), broken=(2,))
    noted = []
    assert greys(shards(str(tmp_path / "a.tar"), skip=noted.append)) == [0, 1, 3]
    assert len(noted) == 1 and "a.tar:002" in noted[0]


def test_mistakes(urls, tmp_path):
    write(tmp_path / "b.tar", range(3), label=lambda grey: "7")
    with pytest.raises(ValueError, match=r"b.tar:000 has class '7'; data.classes names 2"):
        greys(shards(str(tmp_path / "b.tar")))
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        add(tar, "1.txt", b"words")
    with pytest.raises(ValueError, match=r"c.tar:1 has txt; a sample needs a picture"):
        greys(shards(str(tmp_path / "c.tar")))
    with pytest.raises(ValueError, match=r"cannot read shards .*absent.tar"):
        greys(shards(str(tmp_path / "absent.tar")))
    with pytest.raises(ValueError, match="4 shards for 5 readers"):
        greys(shards(urls, samples=20, place=(0, 5)))
    with pytest.raises(ValueError, match=r"data.samples is 1; a batch of all processes has 2"):
        shards(urls, samples=1)
    with pytest.raises(ValueError, match=r"data.classes is ''"):
        read_classes("")
