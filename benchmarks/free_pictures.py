"""Gather freely licensed pictures out of Debian's packages: cut-outs by class, and photographs, with their licences.

    python benchmarks/free_pictures.py pictures
    python benchmarks/free_pictures.py pictures-copyleft --also GPL CC-BY-SA

The packages come through `apt-get download`, and are unpacked without being installed. A picture is kept only if its
licence begins with a word of ACCEPTED or of `--also`. `pictures/cutouts/CLASS` has drawings and photographs with alpha.
`pictures/backgrounds` and `pictures/photographs` have photographs, the latter of single objects.
`pictures/licences.json` names package, version, licence and holder of each file. `dualvit data cutouts` makes scenes of
cut-outs and backgrounds.
"""

import argparse
import io
import json
import re
import struct
import subprocess
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import translate
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import label  # type: ignore[import-untyped]

from dualvit.files import atomic_folder

ACCEPTED = ("public-domain", "CC0", "CC-BY-1", "CC-BY-2", "CC-BY-3", "CC-BY-4", "MIT", "Expat", "BSD", "Apache")
CUTOUT_SIDE, BACKGROUND_SIDE = 512, 1600  # pixels, of the longer side; larger ones are scaled down
Image.MAX_IMAGE_PIXELS = 30_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)
OPENCLIPART, STAMPS = "usr/share/openclipart/png", "usr/share/tuxpaint/stamps"
CLASSES = {  # of cut-outs, by the longest of these folders that a file lies in; "" for none
    f"{OPENCLIPART}/animals": "animal", f"{OPENCLIPART}/animals/birds": "bird", f"{OPENCLIPART}/animals/fish": "fish",
    f"{OPENCLIPART}/animals/bugs": "insect", f"{OPENCLIPART}/buildings": "building",
    f"{OPENCLIPART}/buildings/furniture": "furniture", f"{OPENCLIPART}/computer/hardware": "device",
    f"{OPENCLIPART}/containers": "container", f"{OPENCLIPART}/electronics": "device", f"{OPENCLIPART}/food": "food",
    f"{OPENCLIPART}/food/beverages": "drink", f"{OPENCLIPART}/food/fruit": "fruit",
    f"{OPENCLIPART}/food/vegetables": "vegetable", f"{OPENCLIPART}/office": "office",
    f"{OPENCLIPART}/people": "person", f"{OPENCLIPART}/people/clothing": "clothes",
    f"{OPENCLIPART}/people/bodypart": "", f"{OPENCLIPART}/people/clothing/pantyhose": "",
    f"{OPENCLIPART}/people/smilies": "smiley", f"{OPENCLIPART}/people/stickmen": "",
    f"{OPENCLIPART}/plants": "plant", f"{OPENCLIPART}/recreation/music": "instrument",
    f"{OPENCLIPART}/recreation/sports": "sport", f"{OPENCLIPART}/recreation/toys": "toy",
    f"{OPENCLIPART}/tools": "tool", f"{OPENCLIPART}/tools/weapons": "", f"{OPENCLIPART}/transportation": "vehicle",
    f"{OPENCLIPART}/transportation/aiga-symbols": "", f"{OPENCLIPART}/transportation/roadsigns": "sign",
    f"{STAMPS}/animals": "animal", f"{STAMPS}/animals/birds": "bird", f"{STAMPS}/animals/fish": "fish",
    f"{STAMPS}/animals/insects": "insect", f"{STAMPS}/clothes": "clothes", f"{STAMPS}/food": "food",
    f"{STAMPS}/food/fruit": "fruit", f"{STAMPS}/food/vegetables": "vegetable",
    f"{STAMPS}/hobbies/music": "instrument", f"{STAMPS}/household/tools": "tool",
    f"{STAMPS}/household/dishes": "container", f"{STAMPS}/plants": "plant", f"{STAMPS}/sports": "sport",
    f"{STAMPS}/town/houses": "building", f"{STAMPS}/town/monuments": "building", f"{STAMPS}/town/roadsigns": "sign",
    f"{STAMPS}/vehicles": "vehicle", f"{STAMPS}/military/vehicles": "vehicle",
}  # fmt: skip
PACKAGES = (  # with the licence of all their pictures, if the file `copyright` does not say it per file
    ("gcompris-qt-data", ""), ("lomiri-wallpapers-16.04", ""), ("lomiri-wallpapers-20.04", ""),
    ("mate-backgrounds", ""), ("palapeli-data", ""), ("plasma-workspace-wallpapers", "GPL-2+"),
    ("python3-skimage", "BSD-3-clause"), ("ukui-wallpapers", "CC-BY-SA-3.0"),
    ("tuxpaint-stamps-default", "GPL-2"), ("openclipart-png", "public-domain"),
)  # fmt: skip
LEFT_OUT = ("/tests/", "/truncated", "/paintings/", "/babyshapes/")  # parts of pictures, and paintings
OBJECTS = ("/fishes/", "/animals/", "/tools/", "/others/")  # photographs of what the cut-outs show, too


@dataclass(frozen=True)
class Found:
    """A picture in a package.

    Attributes:
        place: Its path in the package, or in an archive of Qt resources there.
        package: The package's name and version.
        licence, holder: As the package's file `copyright` has them.
        content: The file.
    """

    place: str
    package: str
    licence: str
    holder: str
    content: bytes

    def image(self) -> Image.Image | None:
        """Return the picture, upright, RGBA, scaled down to the size of a background; None of an immense one."""
        try:
            image = Image.open(io.BytesIO(self.content))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return None
        image.draft("RGB", (BACKGROUND_SIDE, BACKGROUND_SIDE))
        image.thumbnail((BACKGROUND_SIDE, BACKGROUND_SIDE))
        return ImageOps.exif_transpose(image).convert("RGBA")


Terms = list[tuple[re.Pattern[str], str, str]]


def terms(copyright_file: str) -> Terms:
    """Return the paragraphs of a machine-readable file `copyright`: what matches their files, licence, holder.

    Archives hold pictures in another format than the sources, so a suffix does not count.
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", copyright_file):
        fields = dict(re.findall(r"^(Files|Copyright|License):\s*((?:.*)(?:\n[ \t].*)*)", paragraph, re.M))
        if "Files" in fields and "License" in fields:
            lines = fields["License"].splitlines()
            bare = [re.sub(r"\.\w+$", "", pattern) for pattern in fields["Files"].split()]
            # Packages lay some files into other folders than the sources: then their own names tell.
            bare += [name for name in (pattern.rpartition("/")[2] for pattern in bare) if "*" not in name]
            files = "|".join(f"(?:.*/)?(?:{translate(pattern)})" for pattern in bare)
            found.append((re.compile(files), lines[0].strip(), " ".join(fields.get("Copyright", "").split())))
    return found


def held(place: str, paragraphs: Terms) -> tuple[str, str]:
    """Return licence and holder of a file: of the last paragraph that names it, as Debian's policy has it."""
    stem = place.rpartition(".")[0]
    fitting = [(licence, holder) for files, licence, holder in paragraphs if files.match(stem)]
    return fitting[-1] if fitting else ("", "")


def resources(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in an archive of Qt resources (.rcc)."""
    version, tree, data, names = struct.unpack(">4I", archive[4:20])
    size = 22 if version >= 2 else 14
    waiting = [(0, "")]
    while waiting:
        number, folder = waiting.pop()
        at = tree + number * size
        name_at, flags, first, second = struct.unpack(">IHII", archive[at : at + 14])
        length = struct.unpack(">H", archive[names + name_at : names + name_at + 2])[0]
        name = archive[names + name_at + 6 :][: 2 * length].decode("utf-16-be")
        path = f"{folder}/{name}" if number else ""
        if flags & 2:
            waiting += [(second + index, path) for index in range(first)]
            continue
        begin = data + second + 4
        content = archive[begin : begin + struct.unpack(">I", archive[begin - 4 : begin])[0]]
        yield path.lstrip("/"), zlib.decompress(content[4:]) if flags & 1 else content


def pictures(folder: Path, package: str, licence: str, cache: Path) -> Iterator[Found]:
    """Download and unpack a package, and yield its pictures."""
    if not (archives := list(cache.glob(f"{package}_*.deb"))):
        subprocess.run(["apt-get", "download", package], check=True, cwd=cache, capture_output=True)
        archives = list(cache.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg", "-x", str(archives[0]), str(folder)], check=True)
    version = archives[0].name.split("_")[1].replace("%3a", ":")
    paragraphs = terms((folder / f"usr/share/doc/{package}/copyright").read_text(errors="replace"))
    for file in sorted(folder.rglob("*")):
        if file.is_symlink() or not file.is_file():
            continue
        place = str(file.relative_to(folder))
        inner = resources(file.read_bytes()) if file.suffix == ".rcc" else [(place, b"")]
        for name, content in sorted(inner):
            if name.rpartition(".")[2].lower() not in ("png", "jpg", "jpeg", "webp") or any(
                part in name for part in LEFT_OUT
            ):
                continue
            of, by = (licence, "") if licence else held(name.removeprefix("gcompris/"), paragraphs)
            yield Found(name, f"{package} {version}", of, by, content or file.read_bytes())


def class_of(place: str) -> str:
    """Return the class of a cut-out by its folder; "" if it has none."""
    folders = [folder for folder in CLASSES if place.startswith(f"{folder}/")]
    return CLASSES[max(folders, key=len)] if folders else ""


def cutout(image: Image.Image) -> Image.Image | None:
    """Return a cut-out without its empty border, or None if it has no clear shape, or is an outline or a black sign."""
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE))
    alpha = np.asarray(image.getchannel("A"))
    box = image.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 48:
        return None
    image, solid = image.crop(box), alpha[box[1] : box[3], box[0] : box[2]] > 127
    parts = np.bincount(label(solid)[0].ravel())[1:]
    colours = np.asarray(image.convert("RGB"), dtype=float)[solid]
    vivid = (np.ptp(colours, axis=1) > 24).mean()  # the share of pixels that are neither grey nor black
    shades = len(np.unique((colours[:: 1 + len(colours) // 20000] // 16).astype(int), axis=0))
    if not 0.15 < solid.mean() < 0.95 or parts.max() < 0.85 * parts.sum() or vivid < 0.1 or shades < 8:
        return None
    return image


def photograph(image: Image.Image) -> Image.Image | None:
    """Return an opaque photograph, or None if it is small, a drawing, or has transparent pixels."""
    if min(image.size) < 200 or np.asarray(image.getchannel("A")).min() < 255:
        return None
    image = image.convert("RGB")
    pixels = np.asarray(image.convert("L"), dtype=int)
    flat = (np.abs(np.diff(pixels, axis=1)) == 0).mean()  # drawings have areas of one colour
    return image if flat < 0.45 and pixels.std() > 12 and np.ptp(np.asarray(image), axis=2).mean() > 4 else None


def gather(out: Path, accepted: tuple[str, ...], cache: Path) -> Counter[str]:
    """Write the pictures whose licence is accepted; return how many of each kind there are."""
    counts: Counter[str] = Counter()
    trail = {}
    for package, licence in PACKAGES:
        with tempfile.TemporaryDirectory() as unpacked:
            for found in pictures(Path(unpacked), package, licence, cache):
                if not found.licence.startswith(accepted):
                    counts[f"left out: {found.licence or 'no licence named'}"] += 1
                    continue
                name = re.sub(r"\W+", "-", f"{package}-{found.place.rpartition('.')[0].rpartition('share/')[2]}")
                kind = class_of(found.place)
                if (not kind and found.place.startswith((OPENCLIPART, STAMPS))) or (opened := found.image()) is None:
                    continue
                image = cutout(opened) if kind else photograph(opened)
                folder = "photographs" if any(part in found.place for part in OBJECTS) else "backgrounds"
                target = out / (f"cutouts/{kind}/{name}.png" if kind else f"{folder}/{name}.jpg")
                if image is None:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                image.save(target, quality=92)
                trail[str(target.relative_to(out))] = {
                    key: value for key, value in asdict(found).items() if key != "content"
                }
                counts[str(target.parent.relative_to(out))] += 1
    (out / "licences.json").write_text(json.dumps(trail, indent=1) + "\n")
    return counts


def main() -> None:
    """Gather the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--also", nargs="*", default=[], help="first words of further licences, such as GPL CC-BY-SA")
    parser.add_argument("--cache", type=Path, help="folder with downloaded packages")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, atomic_folder(args.out) as folder:
        counts = gather(folder, (*ACCEPTED, *args.also), args.cache or Path(temporary))
    for kind, count in sorted(counts.items()):
        print(f"{count:5} {kind}")


if __name__ == "__main__":
    main()
