"""`dualvit data get` from a server in this process: conversions, a split by names, and each mistake in one line."""

import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dualvit.data import get as module
from dualvit.data.get import SOURCES, get
from dualvit.data.masks import draw_polygons
from dualvit.data.public import boxes, outline
from dualvit.data.yolo_labels import read_objects
from dualvit.data.yolo_layout import read_yolo
from dualvit.files import read_json, write_json

XML = """<annotation><size><width>{w}</width><height>{h}</height><depth>3</depth></size>{objects}</annotation>"""
ANNOTATION = "BCCD_Dataset-master/BCCD/Annotations/BloodImage_00007.xml"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def jpeg(width=100, height=80, colour="white"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def bccd(numbers=(0, 7), **more):
    root = "BCCD_Dataset-master/BCCD"
    xml = XML.format(w=100, h=80, objects=OBJECT.format("WBC", 10, 20, 30, 60) + OBJECT.format("RBC", 1, 1, 11, 9))
    files = {"BCCD_Dataset-master/LICENSE": "MIT"}
    for number in numbers:
        files[f"{root}/JPEGImages/BloodImage_{number:05}.jpg"] = jpeg()
        files[f"{root}/Annotations/BloodImage_{number:05}.xml"] = xml
    return packed(files | more)


@pytest.fixture
def serve(monkeypatch):
    """Serve contents by data set, as the sources do, and expect as many pictures as told."""
    contents, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            content, length = content if isinstance(content, tuple) else (content, len(content))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv(module.MIRROR, f"http://127.0.0.1:{server.server_address[1]}")

    def put(name, content, pictures):
        contents[urlsplit(SOURCES[name].url).path] = content
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], pictures=pictures))
        return asked

    yield put
    server.shutdown()
    server.server_close()


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_blood_cells(serve, tmp_path):
    asked = serve("bccd", bccd(), 2)
    calls = []
    data, pictures = get("bccd", tmp_path / "bccd", progress=lambda done, total: calls.append((done, total)))
    assert files_of(tmp_path / "bccd") == [
        "LICENSE", "data.yaml", "images/train/BloodImage_00000.jpg", "images/val/BloodImage_00007.jpg",
        "labels/train/BloodImage_00000.txt", "labels/val/BloodImage_00007.txt",
    ]  # fmt: skip
    assert pictures == 2 and calls[-1][0] == calls[-1][1] == len(bccd())
    (picture,) = read_yolo(data, "val").pictures
    np.testing.assert_allclose(picture.boxes, [[10, 20, 30, 60], [1, 1, 11, 9]], atol=1e-3)
    assert picture.labels.tolist() == [1, 0]
    assert read_json(tmp_path / "bccd.source.json")["bytes"] == len(bccd())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bccd", "bccd.source.json"]
    get("bccd", tmp_path / "bccd")  # what is there stays
    assert len(asked) == 1


def test_raccoons_are_brought_down(serve, tmp_path):
    xml = XML.format(w=1280, h=960, objects=OBJECT.format("raccoon", 128, 96, 640, 480))
    names = {f"r-master/images/raccoon-{n}.jpg": jpeg(1280, 960) for n in (1, 4)}
    annotations = {f"r-master/annotations/raccoon-{n}.xml": xml for n in (1, 4)}
    serve("raccoon", packed(names | annotations), 2)
    data, _ = get("raccoon", tmp_path / "r")
    (picture,) = read_yolo(data, "val").pictures
    assert (picture.file.name, picture.width, picture.height) == ("raccoon-4.jpg", 640, 480)
    np.testing.assert_allclose(picture.boxes, [[64, 48, 320, 240]], atol=1e-2)


def test_nuclei_become_polygons(serve, tmp_path):
    mask = Image.new("L", (256, 256))
    ImageDraw.Draw(mask).ellipse((50, 60, 90, 120), fill=255)
    files = {}
    for key, side in (("a" * 64, 256), ("00071198d059ba7f" + "5" * 48, 256), ("b" * 64, 360)):
        files[f"{key}/images/{key}.png"] = png(Image.new("RGBA", (side, side), "white"))
        files[f"{key}/masks/{'c' * 64}.png"] = png(mask)
        files[f"{key}/masks/{'d' * 64}.png"] = png(Image.new("L", (256, 256)))  # an empty one
    serve("nuclei", packed(files), 2)
    data, _ = get("nuclei", tmp_path / "nuclei")
    label = tmp_path / "nuclei/labels/val/00071198d059ba7f.txt"
    assert len(list(read_objects(label, 1))) == 1
    drawn = draw_polygons(label, (256, 256), 2).numpy() == 1
    truth = np.asarray(mask) > 0
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.95
    assert len(read_yolo(data, "train").pictures) == 1


def test_hand_signs_keep_their_folders(serve, tmp_path):
    names = [f"S-master/Dataset/{digit}/IMG_{n}.JPG" for digit in range(10) for n in range(1000, 1010)]
    serve("sign-digits", packed(dict.fromkeys(names, jpeg()) | {"S-master/Examples/example_0.JPG": jpeg()}), 100)
    folder, _ = get("sign-digits", tmp_path / "signs")
    assert sorted(path.name for path in folder.glob("val/3/*")) == ["IMG_1004.jpg", "IMG_1009.jpg"]
    assert len(list(folder.glob("train/*/*.jpg"))) == 80


@pytest.mark.parametrize("name", ["bccd", "raccoon", "sign-digits"])
def test_the_conversion_gives_the_data_sets_beside_the_project(serve, shared, tmp_path, name):
    """Archives made from these, in the sources' structure, come out as they were."""
    there, files = shared / "data" / name, {}
    pictures = sorted(path for path in there.rglob("*.jpg"))
    for picture in pictures:
        if name == "sign-digits":
            files[f"x/Dataset/{picture.parent.name}/{picture.stem}.JPG"] = picture.read_bytes()
            continue
        folders = ("BCCD/JPEGImages", "BCCD/Annotations") if name == "bccd" else ("images", "annotations")
        with Image.open(picture) as image:
            width, height = image.size
        objects = ""
        label = there / "labels" / picture.parent.name / f"{picture.stem}.txt"
        for _, kind, (x, y, w, h) in read_objects(label, 3):
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            objects += OBJECT.format(SOURCES[name].classes[kind], *corners)
        files[f"x/{folders[0]}/{picture.name}"] = picture.read_bytes()
        files[f"x/{folders[1]}/{picture.stem}.xml"] = XML.format(w=width, h=height, objects=objects)
    serve(name, packed(files), SOURCES[name].pictures)
    get(name, tmp_path / "set")
    ours = {str(path.relative_to(tmp_path / "set")): path for path in (tmp_path / "set").rglob("*.*")}
    theirs = {str(path.relative_to(there)): path for path in there.rglob("*.*")}
    assert ours.keys() == theirs.keys()
    for key, path in theirs.items():
        if path.suffix == ".txt":
            rows, same = (list(read_objects(file, 3)) for file in (ours[key], path))
            assert [row[1] for row in rows] == [row[1] for row in same]
            np.testing.assert_allclose([row[2] for row in rows], [row[2] for row in same], atol=3e-6)
        else:
            assert ours[key].read_bytes() == path.read_bytes()


def test_outlines_are_as_those_beside_the_project(shared):
    """A mask drawn from each polygon there gives the same mask back."""
    shares = []
    for file in sorted((shared / "data/nuclei/labels/val").iterdir())[:10]:
        for _, _, numbers in read_objects(file, 1):
            image = Image.new("1", (256, 256))
            ImageDraw.Draw(image).polygon([256 * value - 0.5 for value in numbers], fill=1)
            again = Image.new("1", (256, 256))
            points = [256 * value - 0.5 for point in outline(np.asarray(image)) for value in point]
            ImageDraw.Draw(again).polygon(points, fill=1)
            a, b = torch.tensor(np.asarray(image)), torch.tensor(np.asarray(again))
            shares.append(float((a & b).sum() / (a | b).sum()))
    assert np.median(shares) > 0.99 and min(shares) > 0.8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "HTTP Error 404|Not Found"),
        (b"<html>", "damaged or no zip file"),
        (bccd()[:-60], "damaged or no zip file"),
        ((bccd()[:50], len(bccd())), "ended after 50 of|IncompleteRead|Connection"),
        (bccd(numbers=(0,)), "1 pictures instead of 2"),
        (bccd(**{"../../evil.txt": "x"}), "a path out of the archive"),
        (bccd(**{"/etc/evil.txt": "x"}), "a path out of the archive"),
        (
            bccd(**{"BCCD_Dataset-master/BCCD/Annotations/BloodImage_00007.xml": "<annotation/>"}),
            "no annotation of RBC",
        ),
        (bccd(**{"BCCD_Dataset-master/BCCD/Annotations/BloodImage_00007.xml": "<"}), "no annotation of RBC"),
        (bccd().replace(b"WBC", b"XBC"), "damaged or no zip file: Bad CRC-32"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_such_archive_is_one_line_and_leaves_nothing(serve, tmp_path, content, words):
    serve("bccd", content, 2)
    with pytest.raises((OSError, ValueError), match=words) as caught:
        get("bccd", tmp_path / "bccd")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    serve("bccd", bccd(), 2)  # and the command can be repeated
    get("bccd", tmp_path / "bccd")


def test_another_archive_at_the_same_address_is_noticed(serve, tmp_path):
    serve("bccd", bccd(), 2)
    get("bccd", tmp_path / "bccd")
    (tmp_path / "bccd").rename(tmp_path / "old")
    serve("bccd", bccd(numbers=(0, 11)), 2)
    with pytest.raises(ValueError, match=r"has sha256 .*delete bccd.source.json to accept"):
        get("bccd", tmp_path / "bccd")
    (tmp_path / "bccd.source.json").unlink()
    get("bccd", tmp_path / "bccd")


def test_without_a_network(tmp_path):
    with pytest.raises(OSError, match=r"cannot fetch http://127.0.0.1:9/Shenggan.*; check the network"):
        get("bccd", tmp_path / "bccd", mirror="http://127.0.0.1:9")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(serve, tmp_path, monkeypatch):
    serve("bccd", bccd(), 2)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match=r"cannot write to .*bccd: No space left on device; give another place"):
        get("bccd", tmp_path / "bccd")
    assert not list(tmp_path.iterdir())


def test_what_is_a_user_s_stays(serve, tmp_path):
    asked = serve("bccd", bccd(), 2)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty, and holds no bccd"):
        get("bccd", tmp_path)
    write_json(tmp_path.with_name(f"{tmp_path.name}.source.json"), {"name": "nuclei"})
    with pytest.raises(ValueError, match="is not empty, and holds no bccd"):
        get("bccd", tmp_path)
    with pytest.raises(ValueError, match=r"unknown data set 'bcd'; did you mean bccd\?.*sign-digits"):
        get("bcd", tmp_path / "x")
    assert not asked and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_boxes_of_an_annotation_as_the_source_has_it():
    xml = XML.format(w=650, h=417, objects=OBJECT.format("raccoon", 81, 88, 522, 408)).encode()
    assert boxes(xml, ("raccoon",), "a.xml") == ["0 0.463846 0.594724 0.678462 0.767386"]
