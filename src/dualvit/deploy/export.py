"""Export a network to a file, ask the file what it was made to answer, and keep it only if it answers alike."""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualvit.deploy import formats, tensorrt
from dualvit.deploy.metadata import Metadata
from dualvit.deploy.parity import LIMIT, Parity, Question, ask, compare
from dualvit.deploy.sources import Source
from dualvit.errors import DualViTError, InputError, MissingExtraError, StateError, line_of
from dualvit.files import cannot
from dualvit.provenance import cores

EXTRA = "export"
SUFFIXES: Mapping[str, str] = {
    "onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript", "torch-export": ".pt2", "tensorrt": ".onnx",
}  # fmt: skip
NEEDS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxslim", "onnxruntime"), "openvino": ("onnx", "onnxslim", "openvino"),
    "tensorrt": ("onnx", "onnxslim", "onnxruntime"),
}  # fmt: skip
Opener = Callable[[Path, int], tuple[Any, str, str]]


@dataclass(frozen=True)
class Result:
    """What an export came to.

    Attributes:
        files: That were written; the first is the network.
        metadata: That stands in it.
        parities: The file in each runtime, beside the network.
        nodes: Of an ONNX file, how many of each operator type.
    """

    files: tuple[Path, ...]
    metadata: Metadata
    parities: tuple[Parity, ...]
    nodes: Mapping[str, int]


def export(source: Source, form: str, out: Path, limit: float = LIMIT, static: bool = False) -> Result:
    """Write a network to a file that has been asked at each shape, and whose errors are within a limit.

    Args:
        source: Of `open_source`.
        form: A key of `SUFFIXES`.
        out: The file; files beside it take its name. What is there is replaced once the new one has passed.
        limit: The largest error, see `dualvit.deploy.parity.Row`.
        static: Batch 1 and one size.

    Raises:
        ModuleNotFoundError: a library is missing.
        ValueError: the format does not take this network.
        OSError: the file cannot be written.
        RuntimeError: the errors are above the limit; nothing is written.

    Example:
        >>> from dualvit.deploy.sources import open_source
        >>> source = open_source("dualvit_n", "random", image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = export(source, "torchscript", Path(folder) / "n.torchscript", static=True)
        >>> result.parities[0].error < 1e-4
        True
    """
    require(form, out)
    if form == "torch-export":  # whose graphs are bound to more than one row, and 32 pixels are one
        source = replace(source, least=64)
    if static:
        source = replace(source, metadata=replace(source.metadata, dynamic=False))
    try:
        questions = ask(source)
    except Exception as error:
        raise InputError(
            f"{source.metadata.name} does not take {_words(source)}: {line_of(error, 160)}; give --static"
        ) from None
    try:
        place = tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent)
    except OSError as error:
        raise cannot("write", out, error) from None
    with place as name:
        folder = Path(name)
        file = _write(source, form, folder)
        parities = []
        for opener in openers(form):
            parities.append(_asked(source, form, opener, file, questions))
            _require_alike(source, form, parities[-1], limit)
        nodes = formats.nodes_of(file) if file.suffix == ".onnx" else {}
        files = _move(source, form, file, out)
    return Result(tuple(files), source.metadata, tuple(parities), nodes)


def require(form: str, out: Path) -> None:
    """Check what can be checked before anything is opened.

    Raises:
        ValueError: an unknown format, or a name that does not end as its files do.
        ModuleNotFoundError: a library is missing.
        OSError: there is no folder for the file.
    """
    if form not in SUFFIXES:
        raise InputError(f"unknown format {form!r}; give one of {', '.join(SUFFIXES)}")
    if out.suffix != SUFFIXES[form]:
        raise InputError(f"cannot write {out}: a file of {form} ends in {SUFFIXES[form]}")
    for name in NEEDS.get(form, ()):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"{form} needs {name}; install dualvit[{EXTRA}]")
    if out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder; give another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot("write", out, error) from None


def openers(form: str) -> list[Opener]:
    """Return what a format's files are asked in: ONNX in onnxruntime, and in OpenVINO if it is there."""
    if form == "openvino":
        return [formats.open_openvino]
    if form in ("torchscript", "torch-export"):
        return [formats.open_torch]
    both = importlib.util.find_spec("openvino") is not None
    return [formats.open_onnx, *([formats.open_openvino] if both else [])]


def _write(source: Source, form: str, folder: Path) -> Path:
    if form == "torch-export" and (source.yolo is not None or source.metadata.head == "torchvision"):
        raise InputError(f"{source.metadata.name} is a detector, which torch-export does not take; give --format onnx")
    if form == "torchscript" and source.metadata.head == "torchvision":
        raise InputError(f"{source.metadata.name} is a detector of torchvision, which a trace does not follow; "
                         "give --format onnx")  # fmt: skip
    try:
        return formats.WRITE[form](source, folder)
    except DualViTError:
        raise
    except OSError as error:
        raise cannot("write", folder, error) from None
    except Exception as error:  # each exporter has kinds of its own
        raise InputError(f"{source.metadata.name} cannot be exported to {form}: {line_of(error, 300)}") from error


def _asked(source: Source, form: str, opener: Opener, file: Path, questions: list[Question]) -> Parity:
    try:
        run, runtime, precision = opener(file, cores())
        return compare(source, run, questions, runtime, precision)
    except Exception as error:  # each runtime has kinds of its own
        name, said = opener.__name__.removeprefix("open_"), line_of(error, 240)
        raise StateError(
            f"the {form} file of {source.metadata.name} does not run in {name}: {said}; nothing was written"
        ) from error


def _require_alike(source: Source, form: str, parity: Parity, limit: float) -> None:
    if parity.within(limit):
        return
    worst = max(parity.rows, key=lambda row: row.error)
    if parity.error > limit:
        said = f"{worst.output} is up to {worst.error:.2g} off at {'x'.join(map(str, worst.shape))}, above {limit:g}"
    else:
        assert parity.boxes is not None
        said = f"{parity.boxes[1]} of {parity.boxes[0]} boxes agree"
    raise StateError(
        f"the {form} file of {source.metadata.name} differs from the network in {parity.runtime}: {said}; "
        "nothing was written; give a larger --limit if that is enough for you"
    )


def _move(source: Source, form: str, file: Path, out: Path) -> list[Path]:
    """Put the files in their places, the network last."""
    pairs = [(file, out)]
    if form == "openvino":
        pairs.insert(0, (file.with_suffix(".bin"), out.with_suffix(".bin")))
    if form == "tensorrt":
        beside = tensorrt.write_beside(source.metadata, file, file.parent, out.stem)
        pairs = [*((one, out.with_name(one.name)) for one in beside), *pairs]
    for made, place in pairs:
        try:
            made.replace(place)
        except OSError as error:
            raise cannot("write", place, error) from None
    return [place for _, place in reversed(pairs)]


def _words(source: Source) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in source.shapes)
