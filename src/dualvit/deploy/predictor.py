"""One way to ask any model about pictures: checkpoints in PyTorch, exported files in onnxruntime or OpenVINO.

predictor = open_predictor("best.pt")              or a recipe's .ckpt, an .onnx, an OpenVINO folder
predictor.predict([open_rgb(Path("a.jpg"))])           an answer per picture, as `dualvit.deploy.reading` says
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dualvit.deploy.metadata import Metadata
from dualvit.deploy.reading import Answer, read
from dualvit.deploy.runtimes import EXTRA, missing, open_runtime
from dualvit.deploy.seeing import See, Seen, seeing
from dualvit.deploy.stock import InputForm, about_file, form_of
from dualvit.errors import DualViTError, InputError, MissingExtraError, MissingFileError, line_of

Run = Callable[[Tensor], list[Sequence[Tensor]]]  # images (B, 3, H, W) to the outputs of each, without their first axis
RUNTIMES = ("auto", "eager", "onnxruntime", "openvino")
CHECKPOINTS = (".ckpt", ".pt", ".safetensors")
BATCH = 8  # pictures of a size that go through the network at once
CONFIDENCE = 0.25


@dataclass
class Predictor:
    """A model that answers for pictures.

    Attributes:
        about: Its task, its classes, and how it sees pictures.
        see: Makes its input of an RGB picture.
        run: The network.
        runtime: "eager", "onnxruntime" or "openvino".
        precision: In which it computes.
        why: What was said when the runtime was chosen.
        batch: Pictures of one size that go through at once.
    """

    about: Metadata
    see: See
    run: Run
    runtime: str = "eager"
    precision: str = "fp32"
    why: str = ""
    batch: int = BATCH
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.about.name

    @property
    def task(self) -> str:
        """One of "classify", "detect", "segment" and "semantic"."""
        return self.about.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by number."""
        return self.about.classes

    @torch.inference_mode()
    def predict(self, pictures: Sequence[Image.Image], confidence: float = CONFIDENCE) -> list[Answer]:
        """Return an answer per picture, as JSON holds it; each is the one that the picture alone would get.

        Pictures whose inputs have the same size go through the network together. Calls from several threads take turns.

        Args:
            pictures: RGB, upright, of any sizes.
            confidence: Objects with a lower score are left out; classes of a picture are not.

        Raises:
            ValueError: the confidence is not within 0 and 1, or a picture cannot be used.
            RuntimeError: the network answers with numbers that are not finite.
        """
        if not 0 <= confidence <= 1:
            raise InputError(f"confidence is {confidence:g}; give a number from 0 to 1")
        seen = [self.see(picture) for picture in pictures]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(seen):
            groups.setdefault(tuple(one.image.shape), []).append(index)
        answers: list[Answer] = [{} for _ in seen]
        with self._lock:
            for numbers in groups.values():
                for first in range(0, len(numbers), self.batch):
                    self._answer(numbers[first : first + self.batch], seen, answers, confidence)
        return answers

    def _answer(self, numbers: Sequence[int], seen: Sequence[Seen], answers: list[Answer], confidence: float) -> None:
        outputs = self.run(torch.stack([seen[number].image for number in numbers]))
        for number, values in zip(numbers, outputs, strict=True):
            answers[number] = read(self.about, values, seen[number], confidence)


def open_predictor(
    model: str | Path, runtime: str = "auto", weights: str | Path | None = None, image_size: int | None = None,
    threads: int | None = None,
) -> Predictor:  # fmt: skip
    """Open a model that answers for pictures.

    Args:
        model: A checkpoint of a recipe (.ckpt) or of YOLO (.pt, .safetensors), a timm name with `weights`, an .onnx
            file, or an OpenVINO .xml or its folder; of `dualvit export` or of Ultralytics' exporter.
        runtime: "eager" is PyTorch. "auto" takes it for checkpoints; for a file it takes the quickest runtime that is
            installed and opens the file, by a pass in each.
        weights: Of a timm name.
        image_size: In pixels; what the model was trained at if left out. Of a file it is fixed.
        threads: Of a pass; all cores that the process may use if left out.

    Raises:
        FileNotFoundError: there is no such model.
        ModuleNotFoundError: the runtime is not installed; the message names the extra.
        ValueError: the model cannot be used, or the runtime does not open it.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"runtime is {runtime!r}; give one of {', '.join(RUNTIMES)}")
    path = Path(model)
    threads = threads or len(os.sched_getaffinity(0))
    if path.suffix in (*CHECKPOINTS, ".onnx", ".xml") and not path.is_file():
        raise MissingFileError(f"no model at {model}; give a checkpoint, an exported file, or a timm name")
    if path.suffix in (".onnx", ".xml") or path.is_dir():
        if runtime == "eager":
            raise InputError(f"{model} is an exported file, which PyTorch does not run; leave --runtime out")
        if image_size is not None or weights is not None:
            raise InputError(f"{model} is an exported file, whose size and weights are fixed; leave them out")
        return _open_file(path, runtime, threads)
    if runtime not in ("auto", "eager"):
        raise InputError(f"{runtime} runs exported files; write one with dualvit export {model} --format onnx")
    return _open_eager(str(model), weights, image_size, threads)


def _open_eager(model: str, weights: str | Path | None, image_size: int | None, threads: int) -> Predictor:
    from dualvit.deploy import opening

    suffix = Path(model).suffix
    if suffix in CHECKPOINTS and weights is not None:
        raise InputError(f"{model} has its weights; leave --weights out")
    if suffix == ".ckpt":
        about, see, run = opening.open_recipe(Path(model), image_size)
    elif suffix in CHECKPOINTS:
        about, see, run = opening.open_yolo(Path(model), image_size)
    else:
        about, see, run = opening.open_timm(model, None if weights is None else str(weights), image_size)
    torch.set_num_threads(threads)  # after Ultralytics, which sets them when it is imported
    return Predictor(about, see, run, why="eager PyTorch; an exported file is quicker: dualvit export")


def _open_file(file: Path, runtime: str, threads: int) -> Predictor:
    if file.is_dir():
        file = next(iter(sorted(file.glob("*.xml"))), file / "model.xml")
        if not file.is_file():
            raise MissingFileError(f"no OpenVINO network (.xml) in {file.parent}; give a checkpoint or an export")
    fitting = ("openvino",) if file.suffix == ".xml" else ("onnxruntime", "openvino")
    if runtime != "auto" and runtime not in fitting:
        raise InputError(f"{runtime} does not open {file}; give --runtime {fitting[0]}")
    form = form_of(file)
    about = about_file(file, form)
    names = fitting if runtime == "auto" else (runtime,)
    there = [name for name in names if missing(name) is None]
    if not there:
        raise MissingExtraError(f"{names[0]} needs {missing(names[0])}; install dualvit[{EXTRA}]")
    opened: dict[str, Run] = {}
    faults: list[InputError] = []
    for name in there:
        try:
            opened[name] = _runs(name, file, form, about, threads)
        except InputError as error:
            faults.append(error)
    if not opened:
        raise faults[0]
    see, times = seeing(about), dict[str, float]()
    if len(opened) > 1:
        times = {name: _seconds(run, see) for name, run in opened.items()}
    best = min(opened, key=lambda name: times.get(name, 0.0))
    why = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in sorted(times.items(), key=lambda t: t[1]))
    computes = about.precision if best == "onnxruntime" or about.precision == "int8" else "fp32"  # pinned in OpenVINO
    predictor = Predictor(about, see, opened[best], best, computes, why and f"the quickest of {why}", BATCH)
    _require_answer(predictor, file)
    return predictor


def _require_answer(predictor: Predictor, file: Path) -> None:
    """Ask about one picture: what a file says of its outputs may be of another network."""
    try:
        predictor.predict([Image.new("RGB", (64, 48), "gray")])
    except DualViTError:
        raise
    except Exception as error:  # whatever outputs of other shapes lead to
        line = f"{file} does not answer as a {predictor.task} model with {len(predictor.classes)} classes"
        raise InputError(f"{line}: {line_of(error, 120)}; export it anew") from None


def _runs(runtime: str, file: Path, form: InputForm, about: Metadata, threads: int) -> Run:
    """A file in a runtime, as `Predictor` runs it; one whose shapes are fixed takes a picture at a time."""
    network = open_runtime(runtime, file, threads)
    single = not form.dynamic_batch or about.head == "torchvision"

    def outputs(images: np.ndarray[Any, Any]) -> list[Tensor]:
        try:
            return [torch.from_numpy(np.ascontiguousarray(value)) for value in network(images)]
        except Exception as error:  # each library has kinds of its own
            size = "x".join(map(str, images.shape[:1:-1]))
            raise InputError(f"{file} fails in {runtime} on a picture of {size}: {line_of(error, 160)}") from None

    def run(images: Tensor) -> list[Sequence[Tensor]]:
        arrays = images.numpy().astype(form.kind, copy=False)
        if about.head == "torchvision":
            return [outputs(arrays[index : index + 1]) for index in range(len(arrays))]
        parts = [outputs(arrays[index : index + 1]) for index in range(len(arrays))] if single else [outputs(arrays)]
        return [row for part in parts for row in zip(*part, strict=True)]

    if about.resize != "tiles":
        return run
    from dualvit.deploy.opening import tiled

    return tiled(run, about)


def _seconds(run: Run, see: See) -> float:
    """The time of a pass: the shortest of three, after one that is not counted."""
    image = see(Image.new("RGB", (640, 480))).image[None]
    times = []
    for _ in range(4):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return min(times[1:])
