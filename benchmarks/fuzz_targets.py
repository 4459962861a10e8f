"""What `benchmarks/fuzz_readers.py` mutates: for each reader a few valid files, and how it reads one of them."""

import asyncio
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fuzz import comparison
from PIL import Image, features

from dualvit import archives
from dualvit.compare import reading
from dualvit.compare.results import Costs, Progress, Result, read
from dualvit.data import get, labelme, masks, shards, voc, yolo_labels
from dualvit.data.coco import read_coco
from dualvit.data.images import HEIF, open_mask, open_rgb, size_of
from dualvit.data.layouts import Place, read_place
from dualvit.data.outlines import decode
from dualvit.data.yolo_layout import find_yaml, read_layout, read_yolo
from dualvit.doctor.layouts import open_set
from dualvit.doctor.looks import look
from dualvit.errors import InputError
from dualvit.files import read_json, read_yaml
from dualvit.recipes.config import load_recipe
from dualvit.weights import read_checkpoint, to_safetensors
from dualvit.weights.read import left_out_of

WIDTH, HEIGHT = 32, 24


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        seeds: Valid files, each with its place below the working folder.
        read: Reads a file at such a place; it returns, or raises.
        words: Whether the files are texts, in which words and numbers are exchanged, too.
        beside: Files that lie there untouched, by their places.
    """

    seeds: tuple[tuple[str, bytes], ...]
    read: Callable[[Path], Any]
    words: bool = False
    beside: tuple[tuple[str, bytes], ...] = ()


def picture(form: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A small picture in a file format."""
    values = np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH, 4), dtype=np.uint8) * 50
    buffer = io.BytesIO()
    Image.fromarray(values[..., :3]).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def pictures() -> Target:
    """Each format that can be written here, as `open_rgb` decodes it."""
    exif = Image.Exif()
    exif[274] = 6
    seeds = [
        ("a.png", picture()), ("p.png", picture("PNG", "P")), ("l.png", picture("PNG", "1")), ("a.bmp", picture("BMP")),
        ("a.jpg", picture("JPEG", exif=exif)), ("c.jpg", picture("JPEG", "CMYK")), ("a.gif", picture("GIF", "P")),
        ("a.tif", picture("TIFF")), ("z.tif", picture("TIFF", compression="tiff_lzw")), ("a.ppm", picture("PPM")),
        ("d.tif", picture("TIFF", compression="tiff_adobe_deflate")), ("j.tif", picture("TIFF", compression="jpeg")),
        ("r.tif", picture("TIFF", "RGBA", exif=exif)), ("i.tif", picture("TIFF", "I;16")), ("q.jpg", picture("JPEG",
        progressive=True)), ("x.png", picture("PNG", exif=exif)), ("i.png", picture("PNG", "I;16")),
    ]  # fmt: skip
    for suffix, form, known in (("webp", "WEBP", "webp"), ("jp2", "JPEG2000", "jpg_2000"), ("avif", "AVIF", "avif")):
        if features.check(known):
            seeds.append((f"a.{suffix}", picture(form)))
    seeds.append(("a.mpo", picture("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])))
    if HEIF is not None:
        __import__(HEIF)
        seeds.append(("a.heic", seeds[-2][1]))

    def read_it(file: Path) -> None:
        for act in (size_of, open_rgb, lambda one: open_rgb(io.BytesIO(one.read_bytes()), "shard:1"), look):
            try:
                act(file)
            except InputError:
                if act is look:
                    raise

    return Target(tuple(seeds), read_it)


def mask_files() -> Target:
    """Masks, with one number per pixel."""
    numbers = (np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 4).astype(np.uint8)
    seeds = []
    for name, mode in (("l.png", "L"), ("p.png", "P"), ("i.png", "I;16"), ("l.tif", "L"), ("i.tif", "I")):
        buffer = io.BytesIO()
        image = Image.fromarray(numbers)
        if mode != "L":
            image = Image.fromarray(numbers.astype({"P": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]))
        image.save(buffer, {"png": "PNG", "tif": "TIFF"}[name[-3:]])
        seeds.append((name, buffer.getvalue()))

    def read_it(file: Path) -> None:
        open_mask(file)
        masks.read_mask(file, (HEIGHT, WIDTH), 4, 255, False)
        masks.require_classes(((file, file),), ("a", "b", "c", "d"), 255, True)

    return Target(tuple(seeds), read_it)


def yolo() -> Target:
    """Label files of the YOLO layout, read by recipes, by the masks' painter and by the doctor."""
    rows = [
        ("labels/train/a.txt", b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.2 0.2\n"),
        ("labels/train/a.txt", b"0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n2 0.2 0.2 0.4 0.2 0.4 0.4\r\n"),
        ("labels/train/a.txt", b"\xef\xbb\xbf0 0.5 0.5 0.25 0.25 0.5 0.5 2 0.4 0.4 1\n"),
    ]
    places = ("images/train/a.png", "images/val/b.png")
    beside = (
        ("data.yaml", b"train: images/train\nval: images/val\nnames: [a, b, c]\n"),
        *((p, picture()) for p in places),
    )

    def read_it(file: Path) -> None:
        root = file.parents[2]
        for act in (
            lambda: yolo_labels.read_objects(file, 3), lambda: yolo_labels.read_objects(file, None, 6),
            lambda: masks.draw_polygons(file, (HEIGHT, WIDTH), 4), lambda: read_yolo(root / "data.yaml", "train"),
            lambda: open_set(root), lambda: read_place(Place(root)),
            lambda: read_layout(root / "data.yaml").labels("train").read_all([(root / places[0], file)]),
        ):  # fmt: skip
            refused(act)

    return Target(tuple(rows), read_it, True, beside)


def refused(act: Callable[[], Any]) -> None:
    """Call one of several readers of a file: the next is called if this one refuses it in one line."""
    try:
        act()
    except InputError as error:
        if "\n" in str(error):
            raise
    except FileNotFoundError:
        pass


def data_yaml() -> Target:
    """A data.yaml, and a text file that lists pictures."""
    yamls = [
        b"path: .\ntrain: images/train\nval: [images/val]\nnames: {0: a, 1: b}\n",
        b"train: list.txt\nval: images/val\nnc: 2\nkpt_shape: [2, 3]\n",
        b"train: &x images/train\nval: *x\nnames:\n  - a\n  - b\n# a remark\n",
    ]
    seeds = [*(("data.yaml", text) for text in yamls), ("list.txt", b"./images/train/a.png\nimages/val/b.png\n")]
    beside = [("data.yaml", yamls[1]), ("list.txt", seeds[-1][1]), ("images/train/a.png", picture())]
    beside += [("images/val/b.png", picture()), ("labels/train/a.txt", b"0 0.5 0.5 0.2 0.2\n")]

    def read_it(file: Path) -> None:
        root = file.parent
        layout = read_layout(root / "data.yaml")
        for split in ("train", "val", "test"):
            refused(lambda split=split: layout.pairs(split))
        for act in (lambda: find_yaml(root), lambda: read_yolo(root / "data.yaml", "train"), lambda: open_set(root)):
            refused(act)

    return Target(tuple(seeds), read_it, True, tuple(beside))


def coco() -> Target:
    """COCO's json, read by recipes, by the converter and by the doctor."""
    polygon = {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
    runs = {"size": [HEIGHT, WIDTH], "counts": [10, 20, HEIGHT * WIDTH - 30]}
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 90, "name": "cat", "supercategory": "x"}, {"id": 3, "name": "dog"}],
        "annotations": [
            polygon | {"segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]]}, polygon | {"id": 2, "segmentation": runs},
            polygon | {"id": 3, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "0ih04"}, "iscrowd": 1},
        ],
    }  # fmt: skip
    small = content | {"annotations": [polygon]}
    name = "annotations/instances_train2017.json"
    beside = [("train2017/a.png", picture()), ("val2017/a.png", picture())]
    beside.append(("annotations/instances_val2017.json", json.dumps(small).encode()))

    def read_it(file: Path) -> None:
        root = file.parents[1]
        refused(lambda: decoded(read_coco(file, root / "train2017")))
        refused(lambda: open_set(root))
        refused(lambda: read_place(Place(file, images=root / "train2017")))

    seeds = tuple((name, json.dumps(one).encode()) for one in (content, small))
    return Target(seeds, read_it, True, tuple(beside))


def decoded(read: Any) -> None:
    """Draw each outline of a COCO data set, as a training does."""
    sizes = {one.id: (one.height, one.width) for one in read.pictures}
    for one in read.truth["annotations"]:
        if one.get("segmentation"):
            decode(one["segmentation"], *sizes[one["image_id"]])


def per_picture(name: str, contents: list[bytes], one: Callable[[bytes], Any]) -> Target:
    """An annotation beside its picture."""

    def read_it(file: Path) -> None:
        refused(lambda: read_place(Place(file.parent)))
        one(file.read_bytes())

    return Target(tuple((name, content) for content in contents), read_it, True, (("a.png", picture()),))


def voc_xml() -> Target:
    """VOC's xml."""
    box = "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>10</xmax><ymax>14.5</ymax></bndbox>"
    text = (
        f"<annotation><filename>a.png</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth>"
        f"</size><object><name>cat</name><difficult>1</difficult>{box}</object><object><name>d</name>{box}</object>"
        "</annotation>"
    )
    both = [text.encode(), f'<?xml version="1.0" encoding="utf-16"?>{text}'.encode("utf-16")]
    return per_picture("a.xml", both, voc.read_annotation)


def labelme_json() -> Target:
    """LabelMe's json."""
    shapes = [
        {"label": "cat", "points": [[0, 0], [14, 0], [4, 12]], "shape_type": "polygon", "group_id": 1},
        {"label": "dog", "points": [[1.5, 2], [20, 11]], "shape_type": "rectangle"},
        {"label": "x", "points": [[1, 2]], "shape_type": "point"},
    ]
    content = {"shapes": shapes, "imagePath": "a.png", "imageWidth": WIDTH, "imageHeight": HEIGHT, "imageData": None}
    return per_picture("a.json", [json.dumps(content).encode()], labelme.read_annotation)


def settings() -> Target:
    """YAML of recipes and of experiments."""
    recipes = [
        {"task": "classify", "title": "x", "network": {"name": "dualvit_n", "options": {}},
         "data": {"root": "x", "batch": 8, "image_size": 64}, "schedule": {"epochs": 3, "warmup_epochs": 0.5}},
        {"task": "detect", "data": {"root": "x"}, "network": {"name": "dualvit_n"}, "trainer": {"devices": 1},
         "schedule": {"epochs": 2}},
    ]  # fmt: skip
    experiment = {
        "task": "classify", "data": "digits", "epochs": 1, "seeds": [0, 1], "image_size": 64, "batch": 8,
        "models": ["dualvit_n", {"name": "resnet18", "label": "r", "settings": {"optimizer.lr": 1e-3}}],
        "settings": {"optimizer.lr": 0.001}, "sweep": {"rates": [1e-4, 3e-4, 1e-3]},
    }  # fmt: skip
    yolo_one = {"engine": "yolo", "task": "detect", "data": "data.yaml", "models": ["yolov8n.yaml"], "minutes": 1.5}
    seeds = [("recipe.yaml", yaml.safe_dump(one).encode()) for one in recipes]
    seeds += [("experiment.yaml", yaml.safe_dump(one).encode()) for one in (experiment, yolo_one)]

    def read_it(file: Path) -> None:
        refused(lambda: read_yaml(file))
        (load_recipe if file.stem == "recipe" else reading.load)(str(file))

    return Target(tuple(seeds), read_it, True)


def weights() -> Target:
    """Weights in .safetensors and in torch's files, new and old."""
    state = {"stem.weight": torch.rand(3, 3), "norm.bias": torch.zeros(4), "count": torch.tensor(3)}
    held = {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}}
    seeds = [("a.safetensors", to_safetensors(state, {"left_out": '["head.weight"]', "made": "x"}))]
    for name, content, options in (
        ("a.pth", state, {}), ("b.pth", held, {}), ("c.pth", held, {"_use_new_zipfile_serialization": False}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        torch.save(content, buffer, **options)
        seeds.append((name, buffer.getvalue()))

    def read_it(file: Path) -> None:
        left_out_of(file)
        read_checkpoint(file)

    return Target(tuple(seeds), read_it)


def sealed() -> Target:
    """Torch's archives with a digest, and without one."""
    content = {"epoch": 1, "model": {"a": torch.rand(3, 3)}, "history": [{"loss": 0.5}]}
    with_digest, without = io.BytesIO(), io.BytesIO()
    archives.save(content, with_digest)
    torch.save(content, without)
    return Target(
        (("a.ckpt", with_digest.getvalue()), ("b.ckpt", without.getvalue())), lambda file: archives.load(file)
    )


def tars() -> Target:
    """WebDataset shards."""
    seeds = []
    for name, form in (("a.tar", tarfile.USTAR_FORMAT), ("b.tar", tarfile.GNU_FORMAT), ("c.tar", tarfile.PAX_FORMAT)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            long = "x" * 120 if form != tarfile.USTAR_FORMAT else "x"
            files = {"1.png": picture(), "1.cls": b"0", f"{long}2.jpg": picture("JPEG"), f"{long}2.cls": b"2"}
            for key, content in files.items():
                info = tarfile.TarInfo(key)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        seeds.append((name, buffer.getvalue()))

    def read_it(file: Path) -> None:
        for classes in (3, None):
            list(shards.Shards(str(file), lambda image: image, classes, 1, 0, None, 0, (0, 1), lambda line: None))

    return Target(tuple(seeds), read_it)


def zips() -> Target:
    """The archive of a public data set."""
    root = "BCCD_Dataset-master"
    box = b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>14</ymax></bndbox>"
    size = b"<size><width>32</width><height>24</height></size>"
    xml = b"<annotation>" + size + b"<object><name>WBC</name>" + box + b"</object></annotation>"
    seeds = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as zipped:
            zipped.writestr(f"{root}/LICENSE", "MIT")
            for number in (0, 7):
                zipped.writestr(f"{root}/BCCD/JPEGImages/BloodImage_{number:05}.jpg", picture("JPEG"))
                zipped.writestr(f"{root}/BCCD/Annotations/BloodImage_{number:05}.xml", xml)
        seeds.append((f"{kind}.zip", buffer.getvalue()))
    source = replace(get.SOURCES["bccd"], pictures=2)

    def read_it(file: Path) -> None:
        with file.open("rb") as opened:
            get.convert(opened, source, "http://dualvit.invalid/x.zip", file.parent / "made")

    return Target(tuple(seeds), read_it)


def jsons() -> Target:
    """What a comparison keeps."""
    row, result, cost = comparison()
    kinds: dict[str, Any] = {"result": Result, "cost": Costs, "progress": Progress}
    contents = {"result": result, "cost": cost, "progress": {"epochs": [row], "progress": 0.5, "seconds": 1.0}}

    def read_it(file: Path) -> None:
        read_json(file)
        read(kinds[file.stem], file)

    return Target(tuple((f"{name}.json", json.dumps(one).encode()) for name, one in contents.items()), read_it, True)


def texts() -> Target:
    """Files that name classes, one in a line."""

    def read_it(file: Path) -> None:
        refused(lambda: shards.read_classes(str(file)))
        masks.class_names(file.parent)

    info = b"Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t3\t4\twall, building\n2\t0.2\t3\t4\tsky\n"
    return Target((("classes.txt", b"cat\ndog\n\xc3\xa9l\xc3\xa8ve\r\n"), ("objectInfo150.txt", info)), read_it, True)


def exports() -> Target:
    """ONNX files of this package and of Ultralytics, opened in onnxruntime and asked about a picture."""
    import onnx
    from onnx import TensorProto, helper

    from dualvit.deploy.metadata import KEY, Metadata
    from dualvit.deploy.predictor import open_predictor

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 3, 1])
    mean = helper.make_node("GlobalAveragePool", ["image"], ["mean"])
    classes = [mean, helper.make_node("Flatten", ["mean"], ["rows"])]
    place = [mean, helper.make_node("Reshape", ["mean", "shape"], ["one"])]
    place.append(helper.make_node("Concat", ["one", "one"], ["rows"], axis=1))  # (batch, 4 + 2, 1)
    ours = {KEY: Metadata("a", "classify", ("cat", "dog", "cow"), (32, 32)).to_json()}
    theirs = {"task": "detect", "names": "{0: 'cat', 1: 'dog'}", "imgsz": "[32, 32]", "stride": "32"}
    seeds = []
    for name, nodes, said in (("ours", classes, ours), ("theirs", place, theirs)):
        graph = helper.make_graph(nodes, "a", [image], [rows], [shape] if name == "theirs" else [])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, said)
        seeds.append((f"{name}.onnx", onnx.save_model(model, buffer := io.BytesIO()) or buffer.getvalue()))
    asked = Image.new("RGB", (48, 32), "orange")
    return Target(tuple(seeds), lambda file: open_predictor(file, "onnxruntime", threads=1).predict([asked]), True)


def forms() -> Target:
    """Bodies of requests to a server: a picture in a form, which arrives in parts."""
    from starlette.requests import Request

    from dualvit.serve.body import Held, picture_of
    from dualvit.serve.limits import Limits, RefusedError

    limits = Limits(timeout=2.0)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    field = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    bodies = (head + picture() + b"\r\n--x--\r\n", field + head + picture("JPEG") + b"\r\n--x--\r\n")

    async def ask(body: bytes) -> bytes:
        parts = [body[at : at + 100] for at in range(0, len(body), 100)] or [b""]
        messages = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        async with Held(limits.memory).counting() as share:
            return await picture_of(request, limits, share)

    def read_it(file: Path) -> None:
        try:
            asyncio.run(ask(file.read_bytes()))
        except RefusedError as refused:
            raise InputError(refused.message) from None

    return Target(tuple((f"{number}.form", body) for number, body in enumerate(bodies)), read_it, True)


TARGETS: dict[str, Callable[[], Target]] = {
    "pictures": pictures, "masks": mask_files, "yolo": yolo, "data-yaml": data_yaml, "coco": coco, "voc": voc_xml,
    "labelme": labelme_json, "settings": settings, "weights": weights, "archives": sealed, "shards": tars, "zips": zips,
    "results": jsons, "texts": texts, "exports": exports, "forms": forms,
}  # fmt: skip
