"""What an exported file says of itself: its task, its classes, and how a picture becomes its input.

| file | where the JSON stands | who reads it |
|---|---|---|
| .onnx | model metadata, under `KEY` | `read_metadata`, or onnxruntime's `get_modelmeta().custom_metadata_map` |
| OpenVINO's .xml | rt_info, under `KEY` | `read_metadata`, or `model.get_rt_info([KEY])` |
| .torchscript, .pt2 | the extra file `EXTRA_FILE` | `read_metadata` |
"""

import importlib
import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dualvit.errors import InputError, MissingFileError, line_of
from dualvit.stored import check_classes

KEY = "dualvit"
EXTRA_FILE = "dualvit.json"
LARGEST_JSON = 1 << 22  # bytes
LARGEST_SIDE = 65536  # pixels

Task = Literal["classify", "detect", "segment", "pose", "obb", "semantic", "features"]
Resize = Literal["crop", "letterbox", "shortest", "tiles"]
Head = Literal["logits", "probabilities", "maps", "yolo", "yolo-free", "torchvision"]


@dataclass(frozen=True)
class Metadata:
    """What a predictor needs to know of an exported network.

    Attributes:
        name: Of the network, such as "dualvit_n", or of the file that it came from.
        task: "classify", "detect" (boxes), "segment" (boxes and masks), "semantic" (a class per pixel), or "features";
            of YOLO also "pose" and "obb".
        classes: Their names by number; empty if nobody knows them.
        image_size: Height and width in pixels that the network was trained or scored at.
        mean, std: Of the three channels. The input is (RGB / 255 - mean) / std; 0 and 1 if the graph does it itself.
        crop_pct: Of "crop": the shorter side becomes image_size / crop_pct before the centre is cut out.
        resize: "crop"; "letterbox" (the longer side fits, the rest is grey 114, as Ultralytics does); "shortest" (the
            shorter side becomes `image_size[0]`, the longer one at most `image_size[1]`; nothing is cut or filled);
            "tiles" (the shorter side becomes `image_size[0]`; squares of `tile` pixels that overlap are averaged).
        interpolation: "bilinear" or "bicubic".
        head: How outputs are read. "logits": (B, classes), or (B, classes, H, W) of "semantic". "probabilities":
            (B, classes). "maps": features.
            "yolo": (B, 4 + classes + ..., N), before NMS. "yolo-free": (B, 300, 6 + ...), no NMS is due.
            "torchvision": boxes (N, 4), labels from `first_label`, scores, and masks, of one picture.
        first_label: The number of class 0 among the labels of "torchvision".
        outputs: Names of the outputs, in order.
        stride: Sides are multiples of it; 1 if any side from 32 pixels is taken.
        dynamic: Whether batch, height and width are free. If not, the batch is 1 and the size is `image_size`.
        tile, tile_stride: Of "tiles", in pixels; 0 otherwise.
        precision: Of the weights: "fp32", "fp16", "bf16" or "int8".
        version: Of dualvit, which wrote the file.
        sha256: Of the file of weights that it was made from; empty if there was none.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop_pct: float = 1.0
    resize: Resize = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    head: Head = "logits"
    first_label: int = 0
    outputs: tuple[str, ...] = ()
    stride: int = 1
    dynamic: bool = True
    tile: int = 0
    tile_stride: int = 0
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    version: str = ""
    sha256: str = ""

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def from_json(text: str, where: object) -> Metadata:
    """Return what `Metadata.to_json` wrote; fields that a newer version added are left out.

    Args:
        text: The JSON.
        where: The file, for the message.

    Raises:
        ValueError: it is no JSON, or a field has another kind of value.

    Example:
        >>> from_json(Metadata("dualvit_n", "classify", ("cat", "dog")).to_json(), "n.onnx").classes
        ('cat', 'dog')
    """
    if len(text) > LARGEST_JSON:
        raise InputError(f"{where} has {len(text)} bytes of metadata; {LARGEST_JSON} is the most; export it anew")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise InputError(f"{where} has metadata under {KEY} that are no JSON object; export it anew")
    hints, values = get_type_hints(Metadata), dict[str, Any]()
    for field in fields(Metadata):
        if field.name in raw:
            value = raw[field.name]
            value = tuple(value) if isinstance(value, list) else value
            if not _fits(value, hints[field.name]):
                said = repr(value)
                raise InputError(
                    f"{where} has metadata with {field.name} {said[:60]}, which it cannot be; export it anew"
                )
            values[field.name] = value
    try:
        metadata = Metadata(**values)
    except TypeError:
        raise InputError(f"{where} has metadata without name or task; export it anew") from None
    check_classes(metadata.classes, f"classes of {where}")
    sides = (*metadata.image_size, metadata.stride)
    if not (all(1 <= side <= LARGEST_SIDE for side in sides) and 0 < metadata.crop_pct <= 1 and all(metadata.std)):
        raise InputError(f"{where} has metadata with sizes that no picture has; export it anew")
    return metadata


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a field's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        right = isinstance(value, tuple) and (inner[-1] is ... or len(value) == len(inner))
        return right and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return type(value) is hint


def read_metadata(file: Path) -> Metadata:
    """Return what an exported file says of itself; the weights in it are not read into memory as far as possible.

    Args:
        file: .onnx, OpenVINO's .xml (or its folder), .torchscript, or .pt2, of `dualvit export`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of another kind, or not of `dualvit export`.
    """
    if file.is_dir():
        file = next(iter(sorted(file.glob("*.xml"))), file / "model.xml")
    if not file.is_file():
        raise MissingFileError(f"no exported network at {file}; dualvit export writes one")
    readers = {".onnx": _of_onnx, ".xml": _of_openvino, ".torchscript": _of_archive, ".pt2": _of_archive}
    if file.suffix not in readers:
        raise InputError(f"{file} is no exported network; its name ends in one of {', '.join(readers)}")
    try:
        text = readers[file.suffix](file)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each library has kinds of its own
        raise InputError(f"cannot read the metadata of {file}: {line_of(error, 160)}; export it anew") from None
    if text is None:
        raise InputError(f"{file} has no metadata under {KEY}; dualvit export writes them")
    return from_json(text, file)


def _of_onnx(file: Path) -> str | None:
    onnx = importlib.import_module("onnx")
    model = onnx.load(file, load_external_data=False)
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _of_openvino(file: Path) -> str | None:
    from dualvit.deploy.runtimes import import_openvino

    model = import_openvino().Core().read_model(file)
    return str(model.get_rt_info([KEY]).astype(str)) if model.has_rt_info([KEY]) else None


def _of_archive(file: Path) -> str | None:
    """The extra file of torch.jit.save and of torch.export.save; both are zip archives with one folder."""
    with zipfile.ZipFile(file) as archive:
        found = [entry for entry in archive.infolist() if entry.filename.endswith(f"/extra/{EXTRA_FILE}")]
        if not found or found[0].file_size > LARGEST_JSON:
            return None
        return archive.read(found[0]).decode()
