"""`dualvit data convert`: boxes and polygons come back as they were, and whatever is left out is said."""

import hashlib
import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dualvit.data.coco import decode, encode, read_coco
from dualvit.data.convert import Conversion, convert
from dualvit.data.images import open_rgb
from dualvit.data.layouts import Place
from dualvit.data.polygons import joined, rings
from dualvit.data.yolo_layout import read_yolo
from dualvit.errors import InputError, MissingFileError
from dualvit_cli import main

WIDTH, HEIGHT = 4000, 3000
CLASSES = ["red cell", "größe: ü", "1e-3", "yes", 'a "quoted" # name']
BOX = [1234.5678, 17.25, 2001.123456, 333.3]
POLYGON = [30.25, 10.5, 3050.75, 12.125, 40.3, 2030.75]
PARTS = [[10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0], [50.0, 30.0, 70.0, 30.0, 70.0, 50.0]]


def picture(file, width=WIDTH, height=HEIGHT, orientation=1):
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("1", (width, height), 1).save(file, exif=exif)


def bounds(polygon):
    x, y = polygon[::2], polygon[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def thing(image, category, **fields):
    if isinstance(fields.get("segmentation"), list):
        fields.setdefault("bbox", bounds([value for part in fields["segmentation"] for value in part]))
    return {"image_id": image, "category_id": category} | fields


def coco(root, annotations, names=("a.png", "b c.png"), size=(WIDTH, HEIGHT), split="train", classes=CLASSES):
    """train.json and train/, with ids that have gaps."""
    for name in names:
        if not (root / split / name).exists():
            picture(root / split / name, *size)
    content = {
        "images": [
            {"id": 10 * (i + 1), "file_name": n, "width": size[0], "height": size[1]} for i, n in enumerate(names)
        ],
        "annotations": [{"id": number} | one for number, one in enumerate(annotations, 1)],
        "categories": [{"id": 7 * i, "name": name} for i, name in enumerate(classes, 1)],
    }
    (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def run(source, out, to, **options):
    place = {key: options.pop(key) for key in ("form", "images", "from_zero") if key in options}
    return convert(Conversion(Place(source, **place), out, to, **options))


def annotations_of(root, split="train"):
    return json.loads((root / f"annotations/instances_{split}2017.json").read_text(encoding="utf-8"))


def digests(folder):
    return {
        file.relative_to(folder): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


# ---- what comes back


def test_boxes_come_back_through_yolo(tmp_path):
    root = coco(
        tmp_path / "in", [thing(10, 7, bbox=BOX), thing(10, 35, bbox=[0, 0, 4000, 3000])], ["a.png", "empty.png"]
    )
    before = digests(root)
    done = run(root, tmp_path / "yolo", "yolo")
    assert (done.pictures, done.objects, done.classes) == ({"train": 2}, 2, tuple(CLASSES))
    assert done.notes == (
        "there are no pictures to validate on; --val 0.2 sets a fifth of the training pictures apart",
    )
    read = read_yolo(tmp_path / "yolo/data.yaml", "train")
    assert read.classes == tuple(CLASSES)
    assert [len(one.boxes) for one in read.pictures] == [2, 0]
    run(tmp_path / "yolo/data.yaml", tmp_path / "coco", "coco")
    content = annotations_of(tmp_path / "coco")
    assert [one["name"] for one in content["categories"]] == CLASSES
    np.testing.assert_allclose([one["bbox"] for one in content["annotations"]], [BOX, [0, 0, 4000, 3000]], atol=1e-4)
    assert [one["category_id"] for one in content["annotations"]] == [1, 5]
    assert [one["segmentation"] for one in content["annotations"]] == [[], []]
    read = read_coco(tmp_path / "coco/annotations/instances_train2017.json", tmp_path / "coco/train2017")
    assert read.classes == tuple(CLASSES)
    assert [len(one.boxes) for one in read.pictures] == [2, 0]
    assert digests(root) == before
    assert digests(tmp_path / "coco/train2017") == digests(root / "train")


def test_polygons_come_back_through_yolo(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, segmentation=[POLYGON], area=99.5), thing(20, 14, bbox=BOX)])
    done = run(root, tmp_path / "yolo", "yolo")
    assert done.notes[0] == (
        "boxes are written as polygons of four points, since other objects have outlines: 1 (b c.png)"
    )
    assert "yolo segment train" in done.next
    assert len((tmp_path / "yolo/labels/train/b c.txt").read_text().split()) == 9
    run(tmp_path / "yolo", tmp_path / "coco", "coco")
    polygon, box = annotations_of(tmp_path / "coco")["annotations"]
    np.testing.assert_allclose(polygon["segmentation"], [POLYGON], atol=1e-4)
    np.testing.assert_allclose(polygon["bbox"], bounds(POLYGON), atol=1e-4)
    np.testing.assert_allclose(box["bbox"], BOX, atol=1e-4)


def test_coco_keeps_what_coco_has(tmp_path):
    things = [
        thing(10, 7, segmentation=PARTS, area=123.0),
        thing(10, 7, bbox=[0, 0, 10, 20], iscrowd=1, segmentation=encode(np.ones((1, 60, 80)))[0]),
        thing(10, 7, bbox=[2, 2, 8, 9]),
    ]
    root = coco(tmp_path / "in", things, ["a.png"], (80, 60))
    assert run(root, tmp_path / "out", "coco").objects == 3
    parts, crowd, box = annotations_of(tmp_path / "out")["annotations"]
    assert (parts["segmentation"], parts["area"]) == (PARTS, 123.0)
    assert (crowd["iscrowd"], crowd["segmentation"]) == (1, things[1]["segmentation"])
    assert (box["area"], box["segmentation"], box["iscrowd"]) == (72.0, [], 0)


def test_voc_counts_pixels_from_1(tmp_path):
    boxes = [[0, 0, 1, 1], [9, 19, 21, 31], [70, 50, 10, 10], [5.4, 5.5, 3.3, 3.4]]
    root = coco(tmp_path / "in", [thing(10, 7, bbox=box) for box in boxes], ["ü 1.png"], (80, 60))
    done = run(root, tmp_path / "voc", "voc")
    assert done.notes[0] == "boxes are rounded to whole pixels: 1 (ü 1.png)"
    text = (tmp_path / "voc/Annotations/ü 1.xml").read_text(encoding="utf-8")
    assert "<filename>ü 1.png</filename>" in text and "<width>80</width>" in text and "<name>red cell</name>" in text
    values = [
        [int(text.split(f"<{e}>")[i + 1].split("<")[0]) for e in ("xmin", "ymin", "xmax", "ymax")] for i in range(4)
    ]
    assert values == [[1, 1, 1, 1], [10, 20, 30, 50], [71, 51, 80, 60], [6, 7, 9, 9]]
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text(encoding="utf-8") == "ü 1\n"
    run(tmp_path / "voc", tmp_path / "back", "coco")
    assert [one["bbox"] for one in annotations_of(tmp_path / "back")["annotations"]] == [*boxes[:3], [5, 6, 4, 3]]
    done = run(tmp_path / "voc", tmp_path / "edges", "coco", from_zero=True)
    assert "boxes outside of their pictures, or empty, are left out: 1 (ü 1.png)" in done.notes  # 1 to 1
    assert annotations_of(tmp_path / "edges")["annotations"][0]["bbox"] == [10, 20, 20, 30]


def test_difficult_objects(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], ["a.png"], (80, 60))
    run(root, tmp_path / "voc", "voc")
    file = tmp_path / "voc/Annotations/a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    assert "difficult objects become ordinary ones: 1 (a.png)" in run(tmp_path / "voc", tmp_path / "yolo", "yolo").notes
    run(tmp_path / "voc", tmp_path / "coco", "coco")
    one = annotations_of(tmp_path / "coco")["annotations"][0]
    assert (one["difficult"], one["iscrowd"]) == (1, 0)


def test_masks_and_parts_become_one_polygon(tmp_path):
    image = Image.new("L", (80, 60))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 8, 50, 48), fill=1)
    draw.ellipse((22, 20, 36, 34), fill=0)  # a hole
    draw.rectangle((60, 5, 72, 15), fill=1)  # another part
    mask = np.asarray(image)
    things = [
        thing(10, 7, bbox=[10, 5, 63, 44], segmentation=encode(mask[None])[0]),
        thing(10, 7, segmentation=PARTS),
        thing(10, 7, bbox=[1, 1, 4, 4], segmentation=encode(np.zeros((1, 60, 80)))[0]),
        thing(10, 7, bbox=[0, 0, 9, 9], iscrowd=1, segmentation=encode(mask[None])[0]),
    ]
    done = run(coco(tmp_path / "in", things, ["a.png"], (80, 60)), tmp_path / "yolo", "yolo")
    assert done.objects == 3
    assert done.notes[:3] == (
        "crowds are left out, for which the YOLO layout has no mark: 1 (a.png)",
        "masks become polygons around their pixels: 1 (a.png)",
        "objects of several parts become one polygon, with bridges that have no width: 1 (a.png)",
    )
    read = read_yolo(tmp_path / "yolo/data.yaml", "train")
    segments = read.pictures[0].segments
    for segment, right in zip(segments, (mask, decode(PARTS, 60, 80)), strict=False):
        drawn = decode(segment, 60, 80)
        assert (drawn & right).sum() / (drawn | right).sum() > 0.97
    assert decode(segments[0], 60, 80)[27, 29] == 0  # the hole
    np.testing.assert_allclose(read.pictures[0].boxes[2], [1, 1, 5, 5], atol=1e-4)


def test_rings_are_between_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 5:20] = 1
    (ring,) = rings(mask)
    assert [*ring.min(0), *ring.max(0)] == [5, 4, 20, 9]
    assert (decode([ring.reshape(-1).tolist()], 20, 30) == mask).all()
    assert len(joined([ring, ring + 40])) == 2 * len(ring) + 2


# ---- LabelMe


def shape(kind, points, label="cat", group=None):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def labelme(root, name, shapes, size=(80, 60), path=None):
    picture(root / f"{name}.png", 80, 60)
    content = {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path or f"{name}.png", "imageData": None,
        "imageHeight": size[1], "imageWidth": size[0],
    }  # fmt: skip
    (root / f"{name}.json").write_text(json.dumps(content, indent=2))


def test_labelme(tmp_path):
    root = tmp_path / "in"
    square = [[10.5, 10], [20, 10], [20, 20.25], [10.5, 20]]
    parts = [[[1, 1], [5, 1], [5, 5]], [[30, 30], [40, 30], [40, 40]]]
    labelme(root, "a", [shape("polygon", square, "Katze ü"), shape("rectangle", [[50, 40], [30.5, 20]], "dog")])
    labelme(root, "b", [shape("polygon", part, group=3) for part in parts], path="..\\old\\b.png")
    labelme(root, "c", [
        shape("circle", [[9, 9], [12, 12]]), shape("point", [[1, 1]]), shape("line", [[1, 1], [2, 2]]),
        shape("circle", [[9, 9], [13, 13]]), shape("polygon", [[1, 1], [2, 2]]), shape("rectangle", [[-5, 2], [4, 5]]),
    ])  # fmt: skip
    picture(root / "unlabelled.png", 80, 60)
    done = run(root, tmp_path / "coco", "coco", val=0.34)
    assert done.pictures == {"train": 2, "val": 1}
    assert done.classes == ("Katze ü", "cat", "dog")
    assert set(done.notes) == {
        "shapes of the kind circle are left out: 2 (c.json)", "shapes of the kind point are left out: 1 (c.json)",
        "shapes of the kind line are left out: 1 (c.json)",
        "shapes of the kind polygon with too few points, or with points that are no numbers, are left out: 1 (c.json)",
        "boxes that reach beyond their pictures are clipped: 1 (c.png)",
        "pictures without an annotation that can be used are left out: 1 (unlabelled.png)",
    }  # fmt: skip
    found = {}
    for split in ("train", "val"):
        content = annotations_of(tmp_path / "coco", split)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for one in content["annotations"]:
            found.setdefault(names[one["image_id"]], []).append(one)
    polygon, box = found["a.png"]
    assert polygon["segmentation"] == [[value for point in square for value in point]]
    assert (polygon["bbox"], polygon["area"]) == ([10.5, 10, 9.5, 10.25], 96.1875)
    assert (box["bbox"], box["segmentation"], box["category_id"]) == ([30.5, 20, 19.5, 20], [], 3)
    assert [len(one["segmentation"]) for one in found["b.png"]] == [2]
    assert (found["b.png"][0]["bbox"], found["b.png"][0]["area"]) == ([1, 1, 39, 39], 58.0)
    assert [one["bbox"] for one in found["c.png"]] == [[0, 2, 4, 3]]
    done = run(root, tmp_path / "yolo", "yolo")
    read = read_yolo(tmp_path / "yolo/data.yaml", "train")
    np.testing.assert_allclose(np.reshape(read.pictures[0].segments[0], (4, 2)), square, atol=1e-6)


# ---- photographs that are stored sideways


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("labelled", ["stored", "upright"])
def test_labels_cover_the_same_pixels_upright(orientation, labelled, tmp_path):
    root = tmp_path / "in"
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[16:32, 24:60] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "train").mkdir(parents=True)
    Image.fromarray(stored).save(root / "train/a.png", exif=exif)
    seen = np.asarray(open_rgb(root / "train/a.png"))[..., 0] > 0
    if labelled == "upright" or orientation < 5:
        rows, columns = np.nonzero(seen)
        size = seen.shape[::-1]
    else:
        rows, columns = np.nonzero(stored[..., 0])
        size = (96, 64)
    x1, y1, x2, y2 = map(int, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    mask = np.zeros((1, *size[::-1]))
    mask[0, y1:y2, x1:x2] = 1
    corners = [float(value) for value in (x1, y1, x2, y1, x2, y2, x1, y2)]
    things = [thing(10, 7, segmentation=[corners]), thing(10, 7, bbox=bounds(corners), segmentation=encode(mask)[0])]
    done = run(coco(root, things, ["a.png"], size), tmp_path / "coco", "coco")
    turned = "photographs were labelled sideways, as they are stored, and their labels are turned: 1 (a.png)"
    assert (turned in done.notes) == (labelled == "stored" and orientation >= 5)
    read = read_coco(tmp_path / "coco/annotations/instances_train2017.json", tmp_path / "coco/train2017").pictures[0]
    assert (read.height, read.width) == seen.shape
    for box, segment in zip(read.boxes.astype(int), read.segments, strict=True):
        drawn = np.zeros_like(seen)
        drawn[box[1] : box[3], box[0] : box[2]] = True
        assert (drawn == seen).all()
        assert (decode(segment, *seen.shape) == seen).all()
    run(tmp_path / "coco", tmp_path / "yolo", "yolo")
    np.testing.assert_allclose(read_yolo(tmp_path / "yolo/data.yaml", "train").pictures[0].boxes, read.boxes, atol=1e-4)


def test_pictures_of_another_size_are_left_out(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, segmentation=[POLYGON]), thing(20, 7, bbox=BOX)])
    picture(root / "train/a.png", WIDTH // 2, HEIGHT // 2)
    done = run(root, tmp_path / "out", "coco")
    assert "pictures have another size than their annotations say, and are left out: 1 (a.png)" in done.notes
    content = annotations_of(tmp_path / "out")
    assert [one["file_name"] for one in content["images"]] == ["b c.png"]
    np.testing.assert_allclose([one["bbox"] for one in content["annotations"]], [BOX], atol=1e-4)


def test_labels_of_another_size_are_scaled_in_voc(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[400, 300, 800, 600])], ["a.png"])
    run(root, tmp_path / "voc", "voc")
    picture(next((tmp_path / "voc").rglob("a.png")), WIDTH // 2, HEIGHT // 2)
    done = run(tmp_path / "voc", tmp_path / "out", "coco")
    assert "pictures have another size than their labels say, which are scaled: 1 (a.png)" in done.notes
    np.testing.assert_allclose(annotations_of(tmp_path / "out")["annotations"][0]["bbox"], [200, 150, 400, 300], atol=1)


# ---- splits, names, links


def test_splits_of_each_layout(tmp_path):
    root = tmp_path / "roboflow"
    for split in ("train", "valid", "test"):  # a json and its pictures in one folder
        coco(root, [thing(10, 7, bbox=[1, 2, 3, 4])], ["same.png"], (80, 60), split)
        (root / f"{split}.json").rename(root / split / "_annotations.coco.json")
    assert run(root, tmp_path / "yolo", "yolo").pictures == {"train": 1, "val": 1, "test": 1}
    assert (
        (tmp_path / "yolo/data.yaml")
        .read_text()
        .startswith("train: images/train\nval: images/val\ntest: images/test\n")
    )
    done = run(tmp_path / "yolo", tmp_path / "voc", "voc")
    assert done.pictures == {"train": 1, "val": 1, "test": 1}
    assert done.notes[0].startswith("pictures are renamed, since a name is taken or cannot be listed: 2 (")
    assert sorted(file.name for file in (tmp_path / "voc/JPEGImages").iterdir()) == [
        "same-2.png",
        "same-3.png",
        "same.png",
    ]
    done = run(tmp_path / "voc", tmp_path / "coco", "coco")
    assert done.pictures == {"train": 1, "val": 1, "test": 1}
    assert run(tmp_path / "coco", tmp_path / "again", "coco").pictures == done.pictures


def test_the_same_share_is_set_apart(tmp_path):
    names = [f"{number}.png" for number in range(10)]
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], names, (80, 60))
    assert run(root, tmp_path / "a", "yolo", val=0.2).pictures == {"train": 8, "val": 2}
    run(root, tmp_path / "b", "yolo", val=0.2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(InputError, match=r"there are 2 pictures to validate on already; leave --val out"):
        run(tmp_path / "a", tmp_path / "c", "coco", val=0.2)
    with pytest.raises(InputError, match=r"--val 0\.99 of 10 pictures leaves none to train on"):
        run(root, tmp_path / "c", "coco", val=0.99)


def test_pictures_of_odd_names(tmp_path):
    names = ["sub/a.png", "a.png", "A.PNG", "x\u2028y.png", " .b.png", "c.d.png", "ä ö.png"]
    root = coco(tmp_path / "in", [thing(70, 7, bbox=[1, 2, 3, 4])], names, (80, 60))
    done = run(root, tmp_path / "voc", "voc")
    found = {file.name for file in (tmp_path / "voc/JPEGImages").iterdir()}
    assert found == {"a.png", "a-2.png", "A-3.PNG", "x_y.png", "b.png", "c.d.png", "ä ö.png"}
    assert done.notes[0].startswith("pictures are renamed, since a name is taken or cannot be listed: 4 (")
    assert run(tmp_path / "voc", tmp_path / "yolo", "yolo").pictures == {"train": 7}
    assert (tmp_path / "yolo/labels/train/ä ö.txt").read_text().startswith("0 0.0")
    assert (tmp_path / "yolo/labels/train/c.d.txt").read_text() == ""


def test_links_instead_of_copies(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], ["a.png"], (80, 60))
    run(root, tmp_path / "out", "yolo", link=True)
    link = tmp_path / "out/images/train/a.png"
    assert link.is_symlink() and link.resolve() == (root / "train/a.png").resolve()
    assert len(read_yolo(tmp_path / "out/data.yaml", "train").pictures[0].boxes) == 1


def test_ultralytics_takes_the_polygons(tmp_path):
    data = pytest.importorskip("ultralytics.data.utils", reason="needs dualvit[yolo]")
    things = [
        thing(10, 7, segmentation=PARTS),
        thing(10, 35, bbox=[3, 4, 50, 20]),
        thing(10, 14, bbox=[70, -5, 60, 60]),
    ]
    done = run(coco(tmp_path / "in", things, ["a.png"], (80, 60)), tmp_path / "yolo", "yolo")
    assert done.notes[0].endswith("train.json: 1 box reaches beyond its image and is clipped")
    file = tmp_path / "yolo/images/train/a.png"
    label = str(tmp_path / "yolo/labels/train/a.txt")
    found = data.verify_image_label((str(file), label, "", False, 5, 0, 0, False))
    assert found[0] == str(file), found[-1]
    assert [len(segment) for segment in found[3]] == [9, 4, 4]
    assert found[1].shape == (3, 5)


# ---- one bad file among many, and bad input


def test_a_bad_annotation_costs_itself_alone(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], ["a.png", "b.png", "c.png", "d.png"], (80, 60))
    run(root, tmp_path / "voc", "voc")
    annotations = tmp_path / "voc/Annotations"
    (annotations / "b.xml").write_text("<annotation><object>")
    (annotations / "c.xml").write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation>&a;</annotation>')
    (tmp_path / "voc/JPEGImages/d.png").write_bytes(b"no picture")
    (annotations / "._a.xml").write_bytes(b"\0\5\26\7")
    done = run(tmp_path / "voc", tmp_path / "yolo", "yolo")
    assert done.pictures == {"train": 1}
    assert any("b.xml: it is no xml: no element found" in line for line in done.notes)
    assert any("c.xml: it declares a document type (<!DOCTYPE)" in line for line in done.notes)
    assert any(
        line.startswith("pictures that cannot be read are left out: 1 (") and "d.png" in line for line in done.notes
    )
    assert "pictures without an annotation that can be used are left out: 2 (b.png, c.png)" in done.notes


def test_an_entity_bomb_is_refused(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], ["a.png"], (80, 60))
    run(root, tmp_path / "voc", "voc")
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><annotation><filename>&l9;</filename></annotation>'
    (tmp_path / "voc/Annotations/a.xml").write_text(bomb)
    with pytest.raises(InputError, match=r"no labelled picture in .*declares a document type"):
        run(tmp_path / "voc", tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


def test_nothing_to_convert_is_an_error(tmp_path):
    root = coco(tmp_path / "in", [thing(10, 7, bbox=[90, 2, 3, 4])], ["a.png"], (80, 60))
    with pytest.raises(InputError, match=r"no object of .*in can be used; .*train.json: 1 box is outside its image"):
        run(root, tmp_path / "out", "yolo")
    (root / "train/a.png").write_bytes(b"no picture")
    with pytest.raises((InputError, MissingFileError), match=r"no picture .*a\.png"):
        run(root, tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def source(tmp_path):
    return coco(tmp_path / "in", [thing(10, 7, bbox=[1, 2, 3, 4])], ["a.png"], (80, 60))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "labelme"}, "--to is 'labelme'; there are yolo, coco, voc"),
        ({"form": "vok"}, "--from is 'vok'; there are yolo, coco, voc, labelme"),
        ({"val": 1.5}, "--val is 1.5; give a share from 0 to below 1"),
        ({"from_zero": True}, "--from-zero is for VOC's xml, and .* holds coco; leave it out"),
        ({"form": "voc"}, "no labelled picture in .*"),
        ({"form": "yolo"}, "no data.yaml in .*; name the file"),
    ],
)
def test_settings_that_do_not_fit(options, words, source, tmp_path):
    with pytest.raises((InputError, MissingFileError), match=words):
        run(source, tmp_path / "out", **({"to": "yolo"} | options))
    assert not (tmp_path / "out").exists()


def test_places_that_do_not_fit(source, tmp_path):
    with pytest.raises(MissingFileError, match=r"no data set at .*absent; name a folder"):
        run(tmp_path / "absent", tmp_path / "out", "yolo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no labels that are known; it needs a data.yaml, or a json"):
        run(tmp_path / "empty", tmp_path / "out", "yolo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(InputError, match=r"full is not empty; give a new folder or an empty one"):
        run(source, tmp_path / "full", "yolo")
    with pytest.raises(InputError, match=r"in is not empty"):
        run(source, source, "yolo")
    labelme(source, "x", [shape("polygon", [[1, 1], [5, 1], [5, 5]])])
    with pytest.raises(InputError, match=r"and json files with shapes; give --from coco or --from labelme"):
        run(source, tmp_path / "out", "yolo")
    assert run(source, tmp_path / "empty", "yolo", form="coco").pictures == {"train": 1}


def test_pictures_elsewhere(source, tmp_path):
    (source / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(
        MissingFileError,
        match=r"no picture that .*train.json names lies in .*; the first is a.png; give another --images",
    ):
        run(source, tmp_path / "out", "yolo")
    assert run(source, tmp_path / "out", "yolo", images=tmp_path / "elsewhere").pictures == {"train": 1}
    with pytest.raises(MissingFileError, match=r"nothing is at .*absent"):
        run(source, tmp_path / "two", "yolo", images=tmp_path / "absent")


def test_an_error_leaves_nothing(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dualvit.data.convert.shutil.copyfile", full)
    with pytest.raises(OSError, match=r"cannot write to .*out: No space left on device; give another place"):
        run(source, tmp_path / "out", "yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


# ---- the command


@pytest.mark.parametrize(
    ("to", "command"),
    [
        ("yolo", "dualvit yolo detect train model=yolov8n-dualvit.yaml data='{}'/data.yaml"),
        ("coco", "dualvit recipe fit laptop-detect --set data.root='{0}' --out '{0}'-run"),
        ("voc", "dualvit data convert '{0}' '{0}'-yolo --to yolo"),
    ],
)
def test_the_command_says_what_it_did_and_what_comes_next(to, command, source, tmp_path, monkeypatch, capsys):
    out = tmp_path / f"my {to}"
    monkeypatch.setattr(sys, "argv", ["dualvit", "data", "convert", str(source), str(out), "--to", to])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert capsys.readouterr().out.splitlines() == [
        "there are no pictures to validate on; --val 0.2 sets a fifth of the training pictures apart",
        f"1 train images with 1 objects of 5 classes in {out}; next: {command.format(out)}",
    ]
    monkeypatch.setattr(sys, "argv", ["dualvit", "data", "convert", str(source), str(out), "--to", to])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out} is not empty; give a new folder or an empty one")


@pytest.mark.parametrize(
    "name",
    ["roboflow", "empty-path", "label-with-bom", "nested-images", "linked-folder", "mac-leftovers",
     "rotated-photographs"],
)  # fmt: skip
def test_the_boxes_of_shared_cases(case, name, tmp_path):
    assert run(case(name), tmp_path / "out", "coco").pictures == {"train": 4, "val": 4}
    read = read_coco(tmp_path / "out/annotations/instances_train2017.json", tmp_path / "out/train2017")
    for one in read.pictures:
        x1, y1, x2, y2 = one.boxes[0].round().astype(int)
        red = np.asarray(open_rgb(one.file))[y1:y2, x1:x2].astype(int)
        assert abs(red.mean((0, 1)) - (220, 30, 30)).max() < 30  # as JPEG keeps it
