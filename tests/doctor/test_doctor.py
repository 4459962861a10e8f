"""The doctor on the YOLO layout: every planted fault is found, and nothing else; the command, its page and its JSON."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_sets import BOX, clean, digest, picture, write
from PIL import Image

pytest.importorskip("imagehash", reason="needs `pip install dualvit[doctor]`")

from dualvit.doctor.findings import KINDS
from dualvit.doctor.run import examine


def kinds(report):
    return {kind: len(found) for kind, found in report.groups().items()}


def messages(report, kind):
    return [one.message for one in report.groups().get(kind, [])]


def test_nothing_is_found_in_a_clean_set(tmp_path):
    report = examine(clean(tmp_path)).report
    assert kinds(report) == {}
    assert report.splits == {
        "train": {"pictures": 6, "labelled": 6, "objects": 6},
        "val": {"pictures": 3, "labelled": 3, "objects": 3},
    }
    assert report.classes == {"a": {"train": 3, "val": 2}, "b": {"train": 3, "val": 1}}
    assert (report.status(False), report.status(True)) == (0, 0)


PLANTED = {
    "unreadable": 1, "bomb": 1, "absent": 1, "bad-label": 10, "label-without-picture": 1, "outside": 2, "empty": 1,
    "duplicate-object": 1, "two-classes": 1, "crossing": 1, "duplicate-across": 1, "near-across": 1,
    "duplicate-disagrees": 1, "only-in-val": 1, "duplicate-within": 1, "near-within": 1, "picture-without-label": 1,
    "same-label-file": 1, "not-a-picture": 2, "tiny": 10, "rotated": 1, "extreme": 1, "no-objects": 1,
    "only-in-train": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A data set with each kind of fault once, some ten times, and where they are."""
    root = tmp_path_factory.mktemp("planted")
    clean(root, "[a, b, nowhere, val_only, train_only]", "train: [images/train, more.txt]\nval: images/val\n")
    write(root, "val/v.jpg", "3 0.5 0.5 0.4 0.6", 20)
    write(root, "train/t.jpg", "4 0.5 0.5 0.4 0.6", 21)
    cut = write(root, "train/cut.jpg", BOX, 22)
    cut.write_bytes(cut.read_bytes()[:900])
    write(root, "train/bomb.png", BOX, Image.new("1", (14000, 14000)))
    (root / "more.txt").write_text("images/train/gone.jpg\n")
    (root / "labels/train/gone.txt").write_text(f"{BOX}\n")
    bad = ["0 0.5 0.5 0.5", "x 0.5 0.5 0.5 0.5", "9 0.5 0.5 0.5 0.5", "0.5 0.5 0.5 0.5 0.5", "0 36 24 24 16",
           "0 nan 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5", "0 0.1 0.1 0.9 0.1 0.9", "0", "0 0.5,0.5 0.5 0.5"]  # fmt: skip
    write(root, "train/bad.jpg", "\n".join([*bad[:5], BOX, *bad[5:]]), 23)
    (root / "labels/train/lonely.txt").write_text(f"{BOX}\n")
    write(root, "train/outside.jpg", "0 0.9 0.5 0.4 0.5\n1 0.5 0.2 0.2 0.6", 24)
    write(root, "train/empty.jpg", "0 0.5 0.5 0 0.5", 25)
    write(root, "train/twice.jpg", "0 0.5 0.5 0.4 0.6\n0 0.502 0.5 0.4 0.6", 26)
    write(root, "train/clash.jpg", "0 0.5 0.5 0.4 0.6\n1 0.502 0.5 0.4 0.6", 27)
    write(root, "train/crossing.jpg", "0 0.2 0.2 0.8 0.8 0.8 0.2 0.2 0.8", 28)
    write(root, "train/tiny.jpg", "\n".join(f"0 0.{n}5 0.5 0.05 0.006" for n in range(10)), 29)
    write(root, "train/leak.jpg", "0 0.5 0.5 0.4 0.6", 30)
    write(root, "val/leak.jpg", "1 0.5 0.5 0.4 0.6", 30)
    write(root, "train/near.jpg", BOX, picture(31, 192, 128))
    write(root, "val/near.png", BOX, picture(31))
    for name in ("c1", "c2"):
        write(root, f"train/{name}.jpg", BOX, 32)
    write(root, "train/n1.jpg", BOX, picture(33, 192, 128))
    write(root, "train/n2.png", BOX, picture(33))
    write(root, "train/unlabelled.jpg", None, 34)
    write(root, "train/stem.jpg", BOX, 35)
    write(root, "train/stem.png", BOX, 36)
    (root / "images/train/notes.psd").write_bytes(b"8BPS")
    os.mkfifo(root / "images/train/pipe.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root, "train/rotated.jpg", "0 0.625 0.375 0.25 0.25", 37)
    picture(37).save(root / "images/train/rotated.jpg", exif=exif)
    write(root, "train/thin.jpg", "0 0.5 0.5 1 1", picture(38, 640, 40))
    before = digest(root)
    examination = examine(root / "data.yaml")
    return root, examination, before


def test_each_planted_fault_is_found_and_nothing_else(planted):
    root, examination, before = planted
    assert kinds(examination.report) == PLANTED
    assert set(PLANTED) | {"no-split", "no-labels", "bad-mask", "size-differs", "without-outline"} == set(KINDS)
    assert digest(root) == before
    assert (examination.report.status(False), examination.report.status(True)) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unreadable", "cut.jpg: image file is truncated"),
        ("bomb", "limit"),
        ("bad-label", "bad.txt, line 7 has the coordinate nan"),
        ("bad-label", "bad.txt, line 5 has the coordinate 36; give shares of width and height"),
        ("bad-label", "bad.txt, line 3 has class 9; data.yaml names 0 to 4"),
        ("outside", "outside.txt, line 1 reaches 10 pixels beyond the 96x64 of outside.jpg"),
        ("tiny", "tiny.txt, line 1 is 0.4 pixels short, and 2.6 at image size 640"),
        ("duplicate-object", "twice.txt, line 1 and line 2: a twice, IoU 0.99"),
        ("two-classes", "clash.txt, line 1 is a and line 2 b, IoU 0.99"),
        ("label-without-picture", "lonely.txt has no picture"),
        ("rotated", "rotated.jpg has orientation 6: upright 64x96"),
        ("only-in-val", "class 'val_only' has no objects in train and 1 elsewhere: it cannot be learnt"),
    ],
)
def test_messages_have_the_file_and_the_value(planted, kind, words):
    found = messages(planted[1].report, kind)
    assert any(words in message for message in found), found


def test_boxes_of_a_rotated_photograph_are_of_the_upright_picture(planted):
    item = next(item for item in planted[1].data.items if item.file.name == "rotated.jpg")
    assert item.things[0].box == (32, 24, 48, 48)  # of 64x96


def test_a_tiny_object_is_none_at_a_larger_size(planted, tmp_path):
    write(tmp_path, "train/tiny.jpg", "0 0.5 0.5 0.05 0.006", 1)
    write(tmp_path, "val/other.jpg", "0 0.5 0.5 0.5 0.5", 2)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    assert kinds(examine(tmp_path, 640).report) == {"tiny": 1}
    assert kinds(examine(tmp_path, 1280).report) == {}


def test_a_missing_part_and_a_part_without_labels(tmp_path):
    for index in range(2):
        write(tmp_path, f"train/{index}.jpg", None, index)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    report = examine(tmp_path).report
    assert kinds(report) == {"no-split": 1, "no-labels": 1, "picture-without-label": 2, "no-objects": 1}
    assert "none of the 2 pictures of train has an object" in messages(report, "no-labels")[0]


def test_polygons_that_touch_themselves_do_not_cross(tmp_path):
    bow = "0 0.2 0.2 0.5 0.5 0.8 0.2 0.8 0.8 0.5 0.5 0.2 0.8"
    write(tmp_path, "train/a.jpg", bow, 1)
    write(tmp_path, "val/b.jpg", bow, 2)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    examination = examine(tmp_path)
    assert (kinds(examination.report), examination.report.task) == ({}, "segment")


# ---- the command


def run(*arguments):
    """Run `dualvit doctor` in this process: its exit status, and what it printed."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from dualvit_cli import main

    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["dualvit", "doctor", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()


def test_exit_statuses(tmp_path):
    data, out = clean(tmp_path / "data"), tmp_path / "out"
    assert run(data, "--out", out, "--sheets", 0)[0] == 0
    write(tmp_path / "data", "train/more.jpg", None, 40)  # a warning
    assert run(data, "--out", out, "--sheets", 0)[0] == 0
    assert run(data, "--out", out, "--sheets", 0, "--strict")[0] == 1
    (tmp_path / "data/labels/train/more.txt").write_text("7 0.5 0.5 0.5 0.5")  # a fault
    assert run(data, "--out", out, "--sheets", 0)[0] == 1
    status, _, error = run(tmp_path / "nothing", "--out", out)
    assert (status, error.count("\n")) == (2, 1)
    assert "no data set at" in error
    (tmp_path / "data/data.yaml").write_text("train: images/train\nval: images/val\n")
    status, _, error = run(data, "--out", out)
    assert (status, "has no names" in error) == (2, True)


def test_json_is_all_that_is_printed(planted, tmp_path):
    status, printed, _ = run(planted[0], "--json", "--out", tmp_path, "--sheets", 0)
    content = json.loads(printed)
    assert status == 1
    assert {group["kind"]: group["count"] for group in content["findings"]} == PLANTED
    assert (content["layout"], content["task"], content["image_size"]) == ("yolo", "detect", 640)
    assert content["faults"] + content["warnings"] == sum(PLANTED.values())
    outside = next(group for group in content["findings"] if group["kind"] == "outside")["places"][0]
    assert outside["boxes"][0] == pytest.approx([67.2, 16, 105.6, 48])
    assert json.loads((tmp_path / "doctor.json").read_text())["findings"] == content["findings"]


def test_page_needs_nothing_else_and_nothing_beside_it_is_written(planted, tmp_path):
    pytest.importorskip("lightning", reason="needs dualvit[recipes]")
    root, _, before = planted
    status, printed, _ = run(root, "--out", tmp_path / "out", "--sheets", 3)
    text = (tmp_path / "out/doctor.html").read_text()
    assert status == 1
    assert str(tmp_path / "out/doctor.html") in printed
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["doctor.html", "doctor.json"]
    assert digest(root) == before
    assert "<script" not in text
    assert not [part for part in text.split('src="')[1:] if not part.startswith("data:image/jpeg;base64,")]
    assert "http" not in text
    assert all(KINDS[kind].title in text for kind in PLANTED)
    assert text.count('<div class="strip">') >= 15
    assert 'class="sheet"' in text


def test_names_in_the_page_are_no_markup(tmp_path):
    clean(tmp_path / "data", "['<b>x</b>', b]")
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        folder = tmp_path / "data" / kind / "train"
        shutil.copy(folder / f"p0.{suffix}", folder / f"<i>.{suffix}")
    assert run(tmp_path / "data", "--out", tmp_path / "out", "--sheets", 0)[0] == 0
    text = (tmp_path / "out/doctor.html").read_text()
    assert "&lt;i&gt;.jpg" in text
    assert "<b>x" not in text
    assert "<i>.jpg" not in text


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    status, _, error = run(clean(tmp_path / "data"), "--out", tmp_path / "file/out", "--sheets", 0)
    assert (status, "cannot write to" in error) == (2, True)


def test_without_pictures_and_model_torch_is_not_imported(tmp_path):
    clean(tmp_path / "data")
    code = (
        "import sys; from dualvit_cli import main; sys.argv = ['dualvit', *sys.argv[1:]]\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "doctor",
        str(tmp_path / "data"),
        "--sheets",
        "0",
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False"), done.stderr


# ---- what is truly in the shared sets, and nothing else

TRUE = {
    "bccd": {"near-within": 1},
    "nuclei": {"crossing": 7, "tiny": 11},
    "raccoon": {"duplicate-across": 1, "near-across": 2, "duplicate-within": 3, "near-within": 1},
    "sign-digits": {},
}


@pytest.mark.parametrize("name", TRUE)
def test_no_false_alarm_on_real_sets(shared, name):
    """Looked at one by one: docs/doctor.md lists them."""
    assert kinds(examine(Path(shared) / "data" / name).report) == TRUE[name]
