"""Batches in this process: a row for each picture, a reason for each bad one, and the same rows after any stop."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from standin import StandIn, open_it

from dualvit.batch import parts, plan, sources
from dualvit.batch.plan import Settings
from dualvit.batch.run import run
from dualvit.batch.sources import LOST, BadPictureError, Source
from dualvit.data.coco import read_coco
from dualvit.errors import InputError, MissingFileError, StateError


def picture(value, size=(24, 16), form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size[::-1], 3), value, np.uint8)).save(buffer, form)
    return buffer.getvalue()


BAD = {
    "bad/a.png": (b"", "zero bytes"), "bad/b.jpg": (b"no picture at all", "not a picture"),
    "bad/c.png": (picture(9, (90, 90))[:-30], "truncated"), "bad/d.png": (picture(7, (300, 300)), "too large"),
    "bad/f.jpg": (picture(200, (64, 64), "JPEG")[:400], "truncated"), "bad/m.png": (picture(3), None),
    "bad/p.png": (picture(50), "permission"), "bad/v.png": (picture(50), "vanished"),
}  # fmt: skip


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "model.pt"
    file.write_text("detect")
    return str(file)


@pytest.fixture
def folder(tmp_path):
    """Forty good pictures, in two folders, and something that is no picture."""
    root = tmp_path / "pictures"
    for number in range(40):
        file = root / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(20 + 5 * number, (16 + number, 16)))
    (root / "notes.odt").write_bytes(b"x")
    return root


def rows(out):
    return parquet.read_table(out / "predictions.parquet").to_pylist()


def start(out, source, model, **options):
    settings = {name: options.pop(name) for name in ("confidence", "batch", "runtime") if name in options}
    return run(out, Settings(str(source), model, **{"batch": 8} | settings), open_it, workers=0, **options)


def test_each_picture_has_one_row(tmp_path, folder, model):
    seen = []
    done = start(tmp_path / "out", folder, model, progress=lambda count, total: seen.append((count, total)))
    found = rows(tmp_path / "out")
    assert [row["index"] for row in found] == list(range(40))
    assert [row["image"] for row in found] == sorted(str(f.relative_to(folder)) for f in folder.rglob("*.png"))
    assert all(row["reason"] is None and row["message"] is None for row in found)
    first = found[0]
    assert (first["width"], first["height"]) == (16, 16)
    assert first["objects"] == []  # 20 / 255 is below the confidence
    assert found[39]["objects"][0]["box"] == [1.0, 2.0, 54.0, 14.0]
    assert seen == [(0, 40), (16, 40), (32, 40), (40, 40)]
    assert (done.made, done.parts, done.counts.answered) == (3, 3, 40)
    assert "1 file is no picture" in done.notes[0]
    text = (tmp_path / "out/report.html").read_text()
    assert "40 pictures: 40 answered." in text
    assert text.count("<img") == 6
    assert json.loads((tmp_path / "out/batch.json").read_text())["counts"]["images"] == 40


def test_bad_pictures_have_their_reason_and_cost_no_other_one(tmp_path, folder, model, monkeypatch):
    for name, (content, _) in BAD.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setenv("DUALVIT_MAX_PIXELS", "80000")
    monkeypatch.setattr(StandIn, "answer", _fails_on_three(StandIn.answer))
    real = Path.open

    def opened(self, *arguments, **options):  # a superuser may read all
        if self.name == "p.png" and "bad" in self.parts:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    listed = plan.make

    def make(*arguments):
        made = listed(*arguments)
        (folder / "bad/v.png").unlink()
        return made

    monkeypatch.setattr(plan, "make", make)
    done = start(tmp_path / "out", folder, model)
    found = {row["image"]: row for row in rows(tmp_path / "out")}
    assert len(found) == 48
    expected = {name: reason or "no answer" for name, (_, reason) in BAD.items()}
    assert {name: row["reason"] for name, row in found.items() if row["reason"]} == expected
    assert found["bad/m.png"]["message"] == "this picture makes the model fail"
    assert all(name in found[name]["message"] for name in set(BAD) - {"bad/m.png"})
    assert all(row["objects"] is None and row["width"] is None for name, row in found.items() if name in BAD)
    assert str(done).startswith("48 pictures: 40 answered, 8 without an answer (truncated 2, ")


def _fails_on_three(answer):
    def wrapped(self, values, confidence):
        if values.max() == 3:
            raise ValueError("this picture\nmakes the model fail")
        return answer(self, values, confidence)

    return wrapped


def test_a_stop_at_any_part_changes_no_row(tmp_path, folder, model, monkeypatch):
    start(tmp_path / "calm", folder, model)
    write = parts.PartMaker._write

    def stops(self, file, part, *more):
        if part == 1 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            (file.parent / ".000001-left.part").write_bytes(b"half")
            raise KeyboardInterrupt
        write(self, file, part, *more)

    monkeypatch.setattr(parts.PartMaker, "_write", stops)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "out", folder, model)
    assert [file.name for file in sorted((tmp_path / "out/parts").iterdir())] == [".000001-left.part", "000000.parquet"]
    done = start(tmp_path / "out", folder, model)
    assert done.made == 2
    assert rows(tmp_path / "out") == rows(tmp_path / "calm")
    assert len(list((tmp_path / "out/parts").iterdir())) == 3
    assert start(tmp_path / "out", folder, model).made == 0


def test_a_damaged_part_is_made_again(tmp_path, folder, model):
    start(tmp_path / "out", folder, model)
    expected = rows(tmp_path / "out")
    first, second, third = sorted((tmp_path / "out/parts").iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(third.read_bytes())  # another part's rows: too few
    assert start(tmp_path / "out", folder, model).made == 2
    assert rows(tmp_path / "out") == expected


def test_other_settings_and_another_model_are_one_line(tmp_path, folder, model):
    start(tmp_path / "out", folder, model)
    with pytest.raises(InputError, match=r"begun with confidence 0.25 \(now 0.5\); give the same settings, or another"):
        start(tmp_path / "out", folder, model, confidence=0.5)
    Path(model).write_text("detect ")
    with pytest.raises(InputError, match=r"another content of .*model\.pt"):
        start(tmp_path / "out", folder, model)


def test_pictures_that_came_later_are_said(tmp_path, folder, model):
    start(tmp_path / "out", folder, model)
    (folder / "a/new.png").write_bytes(picture(99))
    done = start(tmp_path / "out", folder, model)
    assert done.counts.images == 40
    assert "1 pictures were not there when the list was made" in done.notes[-1]


def test_coco_holds_each_picture_and_reads_back(tmp_path, folder, model):
    (folder / "z.png").write_bytes(b"")
    start(tmp_path / "out", folder, model, form="coco")
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(1, 42))
    assert content["images"][40] == {
        "id": 41,
        "file_name": "z.png",
        "reason": "zero bytes",
        "message": "z.png has no bytes",
    }
    one = content["annotations"][-1]
    assert (one["image_id"], one["bbox"], one["category_id"]) == (40, [1.0, 2.0, 53.0, 12.0], 1)
    read = read_coco(tmp_path / "out/predictions.json", folder)
    assert read.classes == ("dim", "bright")
    assert sum(len(one.boxes) for one in read.pictures) == len(content["annotations"])
    # The same parts give the other format, without asking the model again.
    assert start(tmp_path / "out", folder, model).made == 0
    assert len(rows(tmp_path / "out")) == 41


@pytest.mark.parametrize("task", ["segment", "classify", "semantic"])
def test_every_task_has_its_column(tmp_path, folder, model, task):
    Path(model).write_text(task)
    start(tmp_path / "out", folder, model)
    last = rows(tmp_path / "out")[39]
    column = parts.answers_of(task)
    assert last[column][0]["name"] == "bright"
    if task == "segment":
        assert last[column][0]["mask"]["counts"] == [16, 32, 832]
    if task != "segment":
        with pytest.raises(InputError, match="COCO's json holds objects"):
            start(tmp_path / "out", folder, model, form="coco")


def shard(file, members, cut=0):
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    if cut:
        file.write_bytes(file.read_bytes()[:cut])


def test_shards_are_read_in_place(tmp_path, model):
    good = [(f"{n}.png", picture(100 + n)) for n in range(20)] + [("0.cls", b"1"), ("._1.png", b"x")]
    shard(tmp_path / "s-0.tar", [*good, ("0.png", picture(250)), ("../evil.png", picture(9))])
    shard(tmp_path / "s-1.tar", [("a.png", picture(60)), ("b.png", picture(70, (200, 200)))], cut=512 * 4)
    start(tmp_path / "out", f"{tmp_path}/s-{{0..1}}.tar", model)
    found = rows(tmp_path / "out")
    names = [row["image"].removeprefix(f"{tmp_path}/") for row in found]
    assert names[:2] == ["s-0.tar:0.png", "s-0.tar:1.png"]
    assert names[20].startswith("s-0.tar:0.png@")  # a second picture of the same name
    assert names[21] == "s-0.tar:../evil.png"
    assert found[21]["reason"] is None  # it is read, and nothing is written anywhere
    assert [row["reason"] for row in found[22:]] == [None, "truncated", "damaged shard"]
    assert not (tmp_path.parent / "evil.png").exists()
    assert len(found) == 25


def test_an_object_store_gives_the_same_rows(tmp_path, folder, model):
    (folder / "z.png").write_bytes(b"")
    start(tmp_path / "local", folder, model)
    start(tmp_path / "store", folder.as_uri(), model)
    skipped = {"message"}
    assert [{k: v for k, v in row.items() if k not in skipped} for row in rows(tmp_path / "store")] == [
        {k: v for k, v in row.items() if k not in skipped} for row in rows(tmp_path / "local")
    ]


def test_a_store_of_fsspec_holds_shards(tmp_path, model):
    import fsspec

    shard(tmp_path / "s.tar", [(f"{n}.png", picture(100 + n)) for n in range(3)])
    fsspec.filesystem("memory").pipe("/bucket/s-0.tar", (tmp_path / "s.tar").read_bytes())
    start(tmp_path / "out", "memory://bucket/s-{0..0}.tar", model)
    assert [row["image"] for row in rows(tmp_path / "out")] == [f"memory://bucket/s-0.tar:{n}.png" for n in range(3)]


def test_a_store_that_does_not_answer_is_no_fault_of_a_picture(folder, monkeypatch):
    monkeypatch.setattr(sources, "WAIT", 0.0)
    source, notes = Source(folder.as_uri()), []
    item = next(source.items(notes))
    tried = []

    class Broken:
        def open_input_file(self, place):
            tried.append(place)
            raise OSError("connection reset")

    source._files.system = Broken()
    with pytest.raises(StateError, match="does not answer: connection reset; try again later"):
        source.open(item)
    assert len(tried) == sources.TRIES


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "no pictures at absent"), ("nothing://x/y", "nothing://"), ("pipe:cat a.tar", "be read twice"),
        ("absent-{0..1}.tar", "no shard at absent-0.tar"), ("EMPTY", "no pictures in"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_one_line(tmp_path, model, source, message):
    (tmp_path / "EMPTY").mkdir()
    with pytest.raises((InputError, MissingFileError, ImportError), match=message) as caught:
        start(tmp_path / "out", tmp_path / source if source == "EMPTY" else source, model)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/plan.json").exists()


def test_a_model_that_fails_on_all_stops_the_batch(tmp_path, folder, model, monkeypatch):
    def fails(self, pictures, confidence):
        raise RuntimeError("weights are broken")

    monkeypatch.setattr(StandIn, "predict", fails)
    with pytest.raises(StateError, match=r"answers for no picture: weights are broken"):
        start(tmp_path / "out", folder, model)


def test_too_little_memory_is_no_reason_of_a_picture(tmp_path, folder, model, monkeypatch):
    monkeypatch.setattr(sources, "open_rgb", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        start(tmp_path / "out", folder, model)


def test_two_commands_do_not_share_a_folder(tmp_path, folder, model):
    from dualvit.locks import only_writer

    with only_writer(tmp_path / "out", "dualvit batch"), pytest.raises(StateError, match="is at work in"):
        start(tmp_path / "out", folder, model)


def test_a_pipe_and_a_lost_shard_are_bad_pictures(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    source = Source(str(tmp_path))
    with pytest.raises(BadPictureError) as caught:
        source.open(sources.Item("a.png", str(tmp_path / "a.png")))
    assert caught.value.reason == "not a picture"
    with pytest.raises(BadPictureError, match="what follows in it is lost"):
        source.open(sources.Item("s.tar", "s.tar", LOST))
