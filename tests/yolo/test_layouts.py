"""The YOLO layout as recipes read it, held against the installed Ultralytics: which pictures and which boxes."""

import os
import random
from inspect import unwrap
from types import SimpleNamespace

import numpy as np
import pytest
import ultralytics
import ultralytics.data.dataset as dataset
import ultralytics.data.utils as data_utils
from PIL import Image
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import img2label_paths

import dualvit.yolo  # noqa: F401  (wraps what is unwrapped below)
from dualvit.data.images import UnreadableError
from dualvit.data.yolo_labels import read_objects
from dualvit.data.yolo_layout import read_layout
from dualvit.yolo.checks import read_data
from dualvit.yolo.data import pairs_of

pytestmark = pytest.mark.skipif(ultralytics.__version__ < "8.4", reason="earlier versions have other rules")
STOCK = unwrap(data_utils.check_det_dataset)
VERIFY = unwrap(dataset.verify_image_label)
NAMES = "names: [a, b]\n"


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def plain(root, yaml, train="images/train", val="images/val"):
    files(root, f"{train}/p.jpg", f"{train}/more/q.v2.JPG", f"{train}/._p.jpg", f"{train}/notes.txt", f"{val}/r.png")
    (root / "data.yaml").write_text(yaml)


def lists(root):
    plain(root, f"train: [images/train, one.txt]\nval: two.txt\ntest: images/val\n{NAMES}")
    files(root, "images/other/x.png", "images/y.png")
    (root / "one.txt").write_bytes(b"\xef\xbb\xbf./images/other/x.png\r\n\r\n./images/y.png\r\n")
    (root / "two.txt").write_text(f"./images/val/r.png\n{root}/images/other/x.png\n")


def linked(root):
    """`images` is a link to a store that has its own labels."""
    plain(root / "store", "")
    files(root / "store", "labels/train/p.txt", "labels/val/r.txt")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{NAMES}")
    (root / "images").symlink_to(root / "store/images")


def linked_below(root):
    """Folders of pictures and of labels behind links."""
    plain(root / "store", "")
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "images" / split / "more").symlink_to(root / "store/images" / split)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{NAMES}")


def relative(root):
    """`path` is relative to the working directory, beside which the YAML's folder has the same name."""
    plain(root / "work/set", "")
    plain(root / "set", "")
    (root / "data.yaml").write_text(f"path: set\ntrain: images/train\nval: images/val\n{NAMES}")
    os.chdir(root / "work")


LAYOUTS = {
    "plain": lambda root: plain(root, f"train: images/train\nval: images/val\n{NAMES}"),
    "roboflow": lambda root: plain(
        root, f"train: ../train/images\nval: ../valid/images\nnc: 2\n{NAMES}", "train/images", "valid/images"
    ),
    "truly above": lambda root: plain(root / "x", "") or (root / "x/sub").mkdir() or (root / "data.yaml").write_text(
        f"path: {root}/x/sub\ntrain: ../images/train\nval: ../images/val\n{NAMES}"),
    "empty path": lambda root: plain(root, f"path:\ntrain: images/train\nval: images/val\n{NAMES}"),
    "absolute path": lambda root: plain(root / "s", "") or (root / "data.yaml").write_text(
        f"path: {root}/s\ntrain: images/train\nval: images/val\n{NAMES}"),
    "relative path": relative,
    "absolute places": lambda root: plain(root, f"train: {root}/images/train\nval: {root}/images/val\n{NAMES}"),
    "lists": lists,
    "nested": lambda root: plain(
        root, f"train: images/train/images\nval: images/val/images\n{NAMES}", "images/train/images", "images/val/images"
    ),
    "no folder images": lambda root: plain(root, f"train: train\nval: val\n{NAMES}", "train", "val"),
    "number of classes": lambda root: plain(root, "train: images/train\nval: images/val\nnc: 2\n"),
    "number as text": lambda root: plain(root, f"train: images/train\nval: images/val\nnc: '2'\n{NAMES}"),
    "numbered names": lambda root: plain(root, "train: images/train\nval: images/val\nnames: {1: b, '0': a}\n"),
    "validation": lambda root: plain(root, f"train: images/train\nvalidation: images/val\n{NAMES}"),
    "mark": lambda root: plain(root, f"\ufefftrain: images/train\r\nval: images/val\r\n{NAMES}"),
    "linked": linked,
    "linked below": linked_below,
}  # fmt: skip


def as_stock(root, split):
    data = STOCK(str(root / "data.yaml"), autodownload=False)
    listed = BaseDataset.get_img_files(SimpleNamespace(prefix="", fraction=1.0), data[split])
    return data["names"], list(zip(listed, img2label_paths(listed), strict=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_and_label_files_are_those_of_ultralytics(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    LAYOUTS[name](tmp_path)
    layout, count = read_layout(tmp_path / "data.yaml"), {"train": 4 if name == "lists" else 2, "val": 1}
    count["val"] += name == "lists"
    for split in ("train", "val"):
        names, pairs = as_stock(tmp_path, split)
        ours = sorted((str(picture.absolute()), str(file.absolute())) for picture, file in layout.pairs(split))
        assert ours == sorted(pairs) and len(ours) == count[split]
        assert layout.classes == tuple(names[index] for index in sorted(names))
        assert pairs_of("x", read_data(tmp_path / "data.yaml"), split) == [(*map(type(tmp_path), p),) for p in pairs]


BOX, POLYGON = "0 0.5 0.5 0.2 0.2", "1 0.1 0.1 0.6 0.1 0.6 0.5"
LABELS = {  # and how many objects there are; None where the file cannot be read
    "box": (BOX, 1),
    "polygon": (POLYGON, 1),
    "mark and CRLF": (f"\ufeff{BOX}\r\n{BOX.replace('0 ', '1 ', 1)}\r\n", 2),
    "tabs and empty lines": ("\n0\t0.5\t0.5 0.2  0.2\n\n   \n", 1),
    "class as a float": ("1.0 0.5 0.5 0.2 0.2", 1),
    "nothing": ("", 0),
    "spaces": (" \n\n", 0),
    "the same line": (f"{BOX}\n{BOX}\n{BOX}0\n1{BOX[1:]}", 2),
    "the same polygon": (f"{POLYGON}\n{POLYGON}", 1),
    "polygons of one box": (f"{POLYGON}\n1 0.1 0.1 0.6 0.1 0.1 0.5", 2),
    "a little below": ("0 -0.005 0.5 0.2 0.2", 1),
    "below": ("0 -0.02 0.5 0.2 0.2", None),
    "a little beyond": ("0 1.005 0.5 0.2 0.2", 1),
    "beyond": ("0 1.02 0.5 0.2 0.2", None),
    "a corner far beyond": ("0 0.8 0.1 1.2 0.1 1.2 0.5", 1),
    "a centre beyond": ("0 0.9 0.1 1.3 0.1 1.3 0.5", None),
    "negative size": ("0 0.5 0.5 -0.005 0.2", None),
    "no size": ("0 0.5 0.5 0 0", 1),
    "pixels": (f"{BOX}\n0 36 24 24 16", None),
    "nan": ("0 nan 0.5 0.2 0.2", None),
    "infinite": ("0 inf 0.5 0.2 0.2", None),
    "class nan": ("nan 0.5 0.5 0.2 0.2", None),
    "class 2": (f"{BOX}\n2 0.5 0.5 0.2 0.2", None),
    "class -1": ("-1 0.5 0.5 0.2 0.2", None),
    "class 0.5": ("0.5 0.5 0.5 0.2 0.2", None),
    "words": ("cat 0.5 0.5 0.2 0.2", None),
    "commas": ("0,0.5,0.5,0.2,0.2", None),
    "three numbers": ("0 0.5 0.5 0.2", None),
    "five numbers": ("0 0.5 0.5 0.2 0.2 0.9", None),
    "odd polygon": ("0 0.1 0.1 0.6 0.1 0.6 0.5 0.3", None),
    "class alone": ("0", None),
    "two points": ("0 0.1 0.1 0.6 0.1 0.6", None),
    "four corners": ("0 0.1 0.1 0.6 0.1 0.6 0.5 0.1 0.5", 1),
    "keypoints without their shape": ("0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 2", None),
    "no text": (b"\xff\xfe0\x00", None),
}


def verdict(folder, content, keypoints=0):
    """What Ultralytics makes of a label file: class, centre and size of each object, and the number of outlines."""
    file = folder / "labels.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    picture = folder / "picture.png"
    if not picture.exists():
        Image.new("RGB", (20, 20)).save(picture)
    shape = (keypoints, 3) if keypoints else (0, 0)
    _, boxes, _, segments, *_ = VERIFY((str(picture), str(file), "", False, 2, *shape, False))
    return file, boxes, segments


def centred(numbers):
    points = np.array(numbers, np.float32)
    if len(numbers) > 4:
        low, high = (np.stack(edge) for edge in (points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)))
        points = np.concatenate([(low + high) / 2, high - low])
    return points.tolist()


def same(file, boxes, keypoints=0):
    ours = sorted([label, *centred(numbers)] for _, label, numbers in read_objects(file, 2, 3 * keypoints))
    return np.allclose(ours, sorted(boxes.tolist()), atol=1e-6) if len(ours) == len(boxes) else False


@pytest.mark.parametrize("name", LABELS)
def test_objects_are_those_of_ultralytics(tmp_path, name):
    content, count = LABELS[name]
    file, boxes, _ = verdict(tmp_path, content)
    if count is None:
        assert boxes is None
        with pytest.raises(UnreadableError, match=str(file)):
            read_objects(file, 2)
        return
    assert len(boxes) == count and same(file, boxes)


def test_boxes_of_labels_for_pose_are_those_of_ultralytics(tmp_path):
    file, boxes, _ = verdict(tmp_path, f"{BOX} 0.4 0.4 2 0.6 0.6 0\n{BOX.replace('0', '1', 1)}", keypoints=2)
    assert len(boxes) == 2 and same(file, boxes, keypoints=2)


def test_any_file_is_read_or_refused_as_by_ultralytics(tmp_path):
    """Lines of one kind, with values about the limits."""
    chance = random.Random(0)
    values = ["0", "0.0", "0.3", "0.5", "1", "1.005", "1.01", "1.011", "-0.004", "-0.01", "-0.011", "1e-3", "nan", "7"]
    weights = [9, 3, 30, 30, 9, 2, 2, 1, 2, 2, 1, 3, 0.3, 0.3]
    read = 0
    for _ in range(200):
        length = chance.choice([4, 4, 4, 6, 8])
        rows = [
            " ".join([chance.choice(["0", "1", "1.0", "0", "0.5"][: 4 + (chance.random() < 0.1)]),
                      *chance.choices(values, weights, k=length)])
            for _ in range(chance.randint(1, 3))
        ]  # fmt: skip
        file, boxes, _ = verdict(tmp_path, "\n".join(rows))
        try:
            read_objects(file, 2)
        except UnreadableError:
            assert boxes is None, rows
            continue
        read += 1
        assert boxes is not None and same(file, boxes), rows
    assert 50 < read < 195
