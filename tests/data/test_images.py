"""The door of all pictures: which are listed, what is seen in each kind, and what each mistake says."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import dualvit
from dualvit.data import images
from dualvit.data.folders import read_folders
from dualvit.data.images import middle, open_mask, open_rgb, pictures_in, require_short, size_of
from dualvit.data.masks import read_rgb
from dualvit.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)
RGB = NOISE[..., :3]
UPRIGHT = {  # what a stored picture looks like upright, by its EXIF orientation
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {}), ("a.tif", {"compression": "tiff_lzw"}),
        ("grey.tif", {}), ("grey.png", {}),
    ],
)  # fmt: skip
def test_pictures_are_upright(tmp_path, name, options):
    stored = RGB[..., 0] if "grey" in name else RGB
    for orientation, upright in UPRIGHT.items():
        Image.fromarray(stored).save(tmp_path / name, exif=turned(orientation), **options)
        expected = upright(stored)
        image = np.asarray(open_rgb(tmp_path / name))
        assert (image == (expected if expected.ndim == 3 else expected[..., None])).all(), orientation
        assert size_of(tmp_path / name) == expected.shape[1::-1]
        assert size_of(tmp_path / name, upright=False) == (24, 16)
        as_stored = np.asarray(open_rgb(tmp_path / name, upright=False))
        assert (as_stored == (stored if stored.ndim == 3 else stored[..., None])).all(), orientation
        if stored.ndim == 2:
            assert (open_mask(tmp_path / name)[0] == expected).all(), orientation


@pytest.mark.parametrize("suffix", ["jpg", "mpo", "avif"])
def test_photographs_are_upright(tmp_path, suffix):
    if suffix == "avif" and ".avif" not in images.SUFFIXES:
        pytest.skip("Pillow has no decoder for AVIF here")
    red = np.zeros((64, 96, 3), np.uint8)
    red[16:32, 24:48] = 220, 30, 30
    for orientation, upright in UPRIGHT.items():
        Image.fromarray(red).save(tmp_path / f"a.{suffix}", exif=turned(orientation), quality=95)
        seen = np.asarray(open_rgb(tmp_path / f"a.{suffix}")).astype(int)
        assert np.abs(seen - upright(red)).mean() < 3, orientation
        assert size_of(tmp_path / f"a.{suffix}") == seen.shape[1::-1]


def test_a_broken_exif_block_is_no_failure(tmp_path):
    file = tmp_path / "a.jpg"
    plain = None
    for block in (
        b"", b"Exif\0\0", b"Exif\0\0abcdefgh", b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",  # orientation 9
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0",  # orientation "6", a text
    ):  # fmt: skip
        Image.fromarray(RGB).save(file, exif=block)
        pixels = np.asarray(open_rgb(file))
        plain = pixels if plain is None else plain
        assert (pixels == plain).all() and size_of(file) == (24, 16)
    Image.fromarray(RGB).save(file, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    assert (np.asarray(open_rgb(file)) == np.rot90(plain, -1)).all()


def test_other_words_on_the_orientation_count_for_nothing(tmp_path):
    """OpenCV and browsers do not believe them, either."""
    Image.fromarray(RGB).save(tmp_path / "a.webp", xmp=XMP.encode(), lossless=True)
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", XMP)
    block = turned(6).tobytes()
    notes.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=notes)
    for name in ("a.webp", "a.png"):
        assert (np.asarray(open_rgb(tmp_path / name)) == RGB).all() and size_of(tmp_path / name) == (24, 16)


def kinds():
    """Pictures of each kind, by the name of their file."""
    rgb, rgba, grey = Image.fromarray(RGB), Image.fromarray(NOISE), Image.fromarray(RGB[..., 0])
    deep = Image.fromarray((RGB[..., 0].astype(np.uint16) << 8) + RGB[..., 1])
    some = {"rgb": rgb, "rgba": rgba, "grey": grey, "la": Image.fromarray(NOISE[..., :2], "LA"), "deep": deep}
    some |= {"palette": rgb.quantize(16), "bits": grey.convert("1"), "cmyk": rgb.convert("CMYK")}
    held = {
        "png": some.keys() - {"cmyk"}, "tif": some.keys(), "jpg": ("rgb", "grey", "cmyk"), "bmp": ("rgb", "palette"),
        "webp": ("rgb", "rgba"), "jp2": ("rgb", "grey", "deep"), "pgm": ("grey", "deep"), "ppm": ("rgb",),
        "mpo": ("rgb",), "avif": ("rgb", "rgba"),
    }  # fmt: skip
    formats = {"pgm": "PPM", "jp2": "JPEG2000", "mpo": "MPO"}
    for suffix, names in held.items():
        if f".{suffix}" in images.SUFFIXES:
            for name in names:
                yield f"{name}.{suffix}", some[name], {"format": formats.get(suffix)}
    for kind in (0, 1, 2):  # what a TIFF says of its fourth band: nothing, alpha in the colours already, alpha
        yield f"alpha{kind}.tif", rgba, {"tiffinfo": {338: (kind,)}}
    more = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
    for name in ("frames.webp", "frames.png", "frames.tif", "frames.mpo"):
        yield name, rgb, more | ({"lossless": True} if "webp" in name else {}) | {"format": formats.get(name[7:])}
    for orientation in UPRIGHT:
        for suffix in ("jpg", "png", "tif", "webp"):
            yield f"turned{orientation}.{suffix}", rgb, {"exif": turned(orientation)}
        yield f"turned{orientation}-grey.tif", grey, {"exif": turned(orientation)}


def test_each_kind_is_seen_as_ultralytics_sees_it(tmp_path):
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    patches = pytest.importorskip("ultralytics.utils.patches")
    if not hasattr(patches, "imread_unicode"):
        pytest.skip("this Ultralytics reads pictures by OpenCV alone")
    compared = 0
    for name, image, options in kinds():
        image.save(tmp_path / name, **options)
        theirs = patches.imread(str(tmp_path / name))
        ours = np.asarray(open_rgb(tmp_path / name))
        assert theirs.shape[:2] == ours.shape[:2], name
        assert (theirs[..., ::-1] == ours).all(), name
        compared += 1
    assert compared > 70


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 24).astype(np.uint16)[None].repeat(16, 0)
    for name, options in (("a.png", {}), ("a.tif", {}), ("a.pgm", {"format": "PPM"})):
        Image.fromarray(values).save(tmp_path / name, **options)
        pixels = np.asarray(open_rgb(tmp_path / name))
        assert (pixels == (values >> 8)[..., None]).all() and pixels.max() == 255
    assert (open_mask(tmp_path / "a.png")[0] == values).all()  # the number of a class is no brightness


def test_32_bits_are_named(tmp_path):
    for name, values in (("f.tif", np.ones((4, 4), np.float32)), ("i.tif", np.full((4, 4), 70000, np.int32))):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(images.UnreadableError, match=rf"{name}: it has 32 bits per value; save it with 8 or 16$"):
            open_rgb(tmp_path / name)


def test_an_animation_is_its_first_frame(tmp_path):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert np.asarray(open_rgb(tmp_path / "a.gif"))[4, 4].tolist() == [255, 0, 0]


def test_the_limit_is_ours(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    Image.new("1", (20, 30)).save(file)
    line = r"cannot read the picture .*a.png: it has 600 pixels, and the limit is {}; shrink it, or set {}=600$"
    for limit, pillows in (("599", Image.MAX_IMAGE_PIXELS), ("599", 100), ("100", 400)):
        monkeypatch.setenv(images.MAX_PIXELS, limit)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
        for read in (open_rgb, size_of, open_mask):
            with pytest.raises(
                images.TooLargeError, match=line.format(limit, images.MAX_PIXELS).replace("picture", r"\w+")
            ):
                read(file)
        assert images.why_refused(file).endswith("=600")
    monkeypatch.setenv(images.MAX_PIXELS, "600")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # who raises our limit means Pillow's, too
    assert open_rgb(file).size == (20, 30)
    for wrong in ("0", "many", "-3", ""):
        monkeypatch.setenv(images.MAX_PIXELS, wrong)
        with pytest.raises(InputError, match=rf"{images.MAX_PIXELS} is '{wrong}'; give a number of pixels"):
            size_of(file)


def test_a_very_large_picture_is_named(case):
    file = case("very-large-picture") / "images/val/big.png"
    with pytest.raises(images.UnreadableError, match=r"big.png: it has 196000000 pixels, and the limit is 150000000; "):
        open_rgb(file)


def test_what_is_no_file_never_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(
            images.UnreadableError, match=rf"cannot read the picture .*{name}: it is no file; remove it$"
        ):
            open_rgb(tmp_path / name)
        assert "it is no file" in images.why_refused(tmp_path / name)
    with pytest.raises(images.UnreadableError, match=r"absent.png: No such file or directory; repair or remove it$"):
        size_of(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(images.UnreadableError, match=r"text.png: no format that Pillow knows; remove it$"):
        size_of(tmp_path / "text.png")
    assert images.why_refused(tmp_path / "text.png") is None and images.why_refused(tmp_path / "absent.png") is None


def test_listing_follows_links_and_counts_what_it_leaves_out(tmp_path):
    root, store, notes = tmp_path / "root", tmp_path / "store", []
    (root / "real").mkdir(parents=True)
    (store / ".hidden").mkdir(parents=True)
    for file in (
        root / "real/a.JPG", store / "b.png", store / "._b.png", store / ".hidden/c.png", root / "Thumbs.db",
        root / "notes.txt", root / "film.mp4", root / "raw.CR2", root / "other.cr2", root / "README",
    ):  # fmt: skip
        file.touch()
    (root / "linked.webp").symlink_to(store / "b.png")
    (root / "lost.png").symlink_to(tmp_path / "absent.png")  # whoever opens it says so
    (root / "self.png").symlink_to(root / "self.png")
    (root / "0again").symlink_to(root / "real")  # each folder once, by its own name
    (root / "more").symlink_to(store)
    (store / "back").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    names = [str(file.relative_to(root)) for file in pictures_in(root, notes)]
    assert names == ["linked.webp", "lost.png", "more/b.png", "real/a.JPG", "self.png"]
    assert notes == [
        f"{root}: 5 files are no pictures that can be read here, and are left out: 2 .cr2, 1 .mp4, 1 .png, "
        "1 no suffix (README, film.mp4, other.cr2, ...)"
    ]
    assert pictures_in(store / ".hidden") == [store / ".hidden/c.png"]  # named, it is taken


def test_other_suffixes_are_pictures(case, monkeypatch):
    folder = case("other-suffixes") / "images/train"
    there = {suffix for suffix, decoder in images.DECODERS.items() if decoder}
    assert {file.suffix for file in pictures_in(folder)} == {".jpg", ".mpo", ".TIF"} | there & {
        ".avif",
        ".jp2",
        ".webp",
    }
    for file in pictures_in(folder):
        red = np.asarray(open_rgb(file))[16:32, 24:48]
        assert np.abs(red.mean((0, 1)) - (220, 30, 30)).max() < 12, file
    notes = []
    monkeypatch.setattr(images, "SUFFIXES", images.SUFFIXES - {".avif", ".jp2"})
    assert len(pictures_in(folder, notes)) == 7
    assert notes[0].endswith(
        "2 files are no pictures that can be read here, and are left out: 1 .avif, 1 .jp2 (x_avif.avif, x_jp2.jp2)"
    )


def test_all_suffixes_of_ultralytics_are_listed():
    utils = pytest.importorskip("ultralytics.data.utils", reason="needs dualvit[yolo]")
    known = images.SUFFIXES | images.DECODERS.keys()
    assert {f".{suffix}" for suffix in utils.IMG_FORMATS} - {".pfm"} <= known  # .pfm is of old versions alone
    assert {".jfif", ".pgm", ".gif"} <= images.SUFFIXES


def test_mac_leftovers_and_links(case):
    assert [file.name for file in pictures_in(case("mac-leftovers") / "images/train")] == [
        f"p{i}.jpg" for i in range(4)
    ]
    root = case("linked-folder") / "images"
    assert [file.relative_to(root).as_posix() for file in pictures_in(root)] == [
        f"{split}/more/p{i}.jpg" for split in ("train", "val") for i in range(4)
    ]


def test_long_pictures_are_cut_or_named(tmp_path):
    tall = Image.fromarray(np.arange(200, dtype=np.uint8)[:, None, None].repeat(3, 2))
    assert np.asarray(middle(tall))[:, 0, 0].tolist() == list(range(68, 132))  # 64 pixels about the centre
    assert middle(tall.transpose(Image.Transpose.ROTATE_90)).size == (64, 1)
    assert middle(tall.crop((0, 0, 1, 64))).size == (1, 64)
    require_short(tmp_path, 64, 1)
    tall.save(tmp_path / "tall.png")
    with pytest.raises(images.UnreadableError, match=r"tall.png: it has 1x200 pixels, and one side may have 64 times"):
        read_rgb(tmp_path / "tall.png")


def test_one_place_opens_pictures():
    opens = re.compile(r"Image\.open\(|cv2\.imread|imdecode|decode_image|read_image\(|imageio|\.rglob\(")
    source = Path(dualvit.__file__).parent
    found = {
        str(file.relative_to(source)): sorted(set(opens.findall(file.read_text())))
        for file in source.rglob("*.py")
        if opens.search(file.read_text())
    }
    assert found.pop("data/images.py") == ["Image.open("]
    assert found.pop("yolo/pictures.py", ["read_image("]) == [
        "read_image("
    ]  # which asks the door, and then Ultralytics
    assert found.pop("drawn/dataset.py") == [".rglob("]  # it counts what it wrote itself
    for name in ("app/offer.py", "deploy/digest.py"):
        assert found.pop(name) == [".rglob("]  # they look for checkpoints, and add up the files of a model
    assert not found
