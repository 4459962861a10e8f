"""Pascal VOC's xml, a file per picture: read without entities, and written.

VOC counts pixels from 1, and a box holds its last one: xmin 1 and xmax 10 are the first ten pixels, from 0 to 10 in the
coordinates of this package. LabelImg writes the same fields with edges from 0.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dualvit.errors import InputError

EDGES = ("xmin", "ymin", "xmax", "ymax")


def parse_xml(content: bytes) -> ET.Element:
    """Return the root of an xml without a document type: entities, which can grow without bounds, need one.

    Raises:
        ValueError: it is no xml, or declares a document type.
    """

    def refuse(*_: object) -> None:
        raise InputError("it declares a document type (<!DOCTYPE), which no annotation needs; remove that line")

    builder, parser = ET.TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except InputError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two of encodings that there are not
        raise InputError(f"it is no xml: {error}") from None
    return builder.close()


def read_annotation(content: bytes, from_zero: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read one annotation.

    Args:
        content: Of the file.
        from_zero: Take coordinates as edges from 0, not as VOC's pixels from 1.

    Returns:
        The picture's `file_name`, `width` and `height` (0 if they are not there); and its objects: `name`, `bbox` in
        COCO's form, `difficult`, and whether there is a `polygon`, which VOC does not define.

    Raises:
        ValueError: it is no such annotation.

    Example:
        >>> box = b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>4</ymax></bndbox>"
        >>> image, objects = read_annotation(b"<annotation><object><name>cat</name>" + box + b"</object></annotation>")
        >>> objects[0]["name"], objects[0]["bbox"]
        ('cat', [0.0, 1.0, 10.0, 3.0])
    """
    root = parse_xml(content)
    if root.tag != "annotation":
        raise InputError(f"it begins with <{root.tag[:40]}>, and VOC's xml with <annotation>")
    width, height = (_number(root, f"size/{side}", 0.0) for side in ("width", "height"))
    image = {"file_name": _text(root, "filename"), "width": int(width), "height": int(height)}
    return image, [_object(one, from_zero) for one in root.findall("object")]


def _object(one: ET.Element, from_zero: bool) -> dict[str, Any]:
    name = _text(one, "name")
    if not name:
        raise InputError("an object has no name")
    left, top, right, bottom = (_number(one, f"bndbox/{edge}") for edge in EDGES)
    first = 0 if from_zero else 1
    return {
        "name": name,
        "bbox": [left - first, top - first, right - left + first, bottom - top + first],
        "difficult": int(_number(one, "difficult", 0.0)),
        "polygon": one.find("polygon") is not None,
    }


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ET.Element, path: str, default: float | None = None) -> float:
    text = _text(element, path)
    if not text and default is not None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path} is {text[:40]!r}, and no number")
    return number


def split_lists(folders: Iterable[Path]) -> dict[Path, str]:
    """Return the split of each annotation that a list in `ImageSets/Main`, beside its folder, names."""
    splits = {}
    for folder in folders:
        for name, split in (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test")):
            file = folder.parent / f"ImageSets/Main/{name}.txt"
            lines = file.read_text("utf-8-sig", "replace").splitlines() if file.is_file() else []
            splits.update({folder / f"{line.strip()}.xml": split for line in lines if line.strip()})
    return splits


def pixels(box: Iterable[float], width: int, height: int) -> list[int]:
    """Return a box as VOC's pixels: the edges at the nearest whole pixel, and at least one pixel wide and high.

    Args:
        box: x1, y1, x2, y2, within the picture.
        width, height: Of the picture.

    Example:
        >>> pixels([0, 1, 10, 4], 20, 20), pixels([5.4, 5.5, 5.45, 7.6], 20, 20)
        ([1, 2, 10, 4], [6, 7, 6, 8])
    """
    x1, y1, x2, y2 = (math.floor(edge + 0.5) for edge in box)
    left, top = min(x1, width - 1) + 1, min(y1, height - 1) + 1
    return [left, top, max(left, x2), max(top, y2)]


def annotation_text(image: dict[str, Any], objects: Iterable[dict[str, Any]]) -> str:
    """Return VOC's xml for a picture.

    Args:
        image: `file_name`, `width` and `height`.
        objects: Each with `name`, `difficult` and the `pixels` of its box.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = "JPEGImages"
    ET.SubElement(root, "filename").text = image["file_name"]
    size = ET.SubElement(root, "size")
    for side, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
        ET.SubElement(size, side).text = str(value)
    ET.SubElement(root, "segmented").text = "0"
    for one in objects:
        element = ET.SubElement(root, "object")
        fields = {"name": one["name"], "pose": "Unspecified", "truncated": 0, "difficult": one["difficult"]}
        for field, value in fields.items():
            ET.SubElement(element, field).text = str(value)
        box = ET.SubElement(element, "bndbox")
        for edge, pixel in zip(EDGES, one["pixels"], strict=True):
            ET.SubElement(box, edge).text = str(pixel)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
