"""int8 of an exported network by NNCF, calibrated on pictures, with the layers that lose most left in float.

    model = open_model(file)                                  an ONNX file in OpenVINO, its constants folded
    found = search(model, pictures, error, limit=0.02)        which layers stay in float, by measurement
    small = to_int8(model, pictures, found.floats)

A layer is a convolution or a matrix product with weights. Where it becomes int8, its inputs and its weights do.
"""

import contextlib
import io
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from dualvit.deploy.runtimes import Array, import_openvino, missing
from dualvit.errors import InputError, MissingExtraError, line_of
from dualvit.telemetry import without_telemetry

EXTRA = "quantise"
LEAST = 8  # pictures to calibrate on
CONVOLUTIONS = ("Convolution", "GroupConvolution")
PRODUCTS = 0.25  # share of the multiply-adds from which matrix products become int8, too
FREE = 0.01  # share of the work that is added to that of a role, whose float layers are never free
ENOUGH = 1.15  # of the least error is near enough to it
ASKED = 8  # pictures that the search compares outputs on
WEIGHTS = 4  # operations between int8 weights and their layer, at most
Error = Callable[[Sequence[Array], Sequence[Array]], float]
Progress = Callable[[int, int], None]


def require_quantiser() -> None:
    """Stop if a library that int8 needs is missing.

    Raises:
        ModuleNotFoundError: with the extra that brings it.
    """
    if (name := missing("openvino") or (None if find_spec("nncf") else "nncf")) is not None:
        raise MissingExtraError(f"dualvit quantise needs {name}; install dualvit[{EXTRA}]")


def import_nncf() -> Any:
    """Import NNCF without its telemetry, which would write to the home folder and call a server, and quietly."""
    require_quantiser()
    # It looks for a CUDA compiler as it loads torch's extensions, and warns if there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with without_telemetry():
        nncf = import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


def open_model(file: Path) -> Any:
    """Open an ONNX file as OpenVINO's model, whose sizes are fixed.

    Raises:
        ValueError: it cannot be opened, or has free sizes.
    """
    openvino = import_openvino()
    try:
        with without_telemetry():  # of its converter, which is imported here
            model = openvino.convert_model(file)
    except Exception as error:  # OpenVINO has kinds of its own
        raise InputError(f"openvino cannot open {file}: {line_of(error, 200)}; export it anew") from None
    if model.is_dynamic():
        raise InputError(f"{file} takes any size, and int8 is made for one; export it without dynamic=True")
    return model


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix product with weights.

    Attributes:
        name: Of its operation in OpenVINO's model.
        kind: Convolution, GroupConvolution or MatMul.
        work: Multiply-adds of a picture.
        int8: Its weights and inputs are int8.
    """

    name: str
    kind: str
    work: int
    int8: bool

    def __str__(self) -> str:
        return self.name.removesuffix("/WithoutBiases").strip("/")


def layers(model: Any) -> list[Layer]:
    """Return the layers of a model in the order in which they run."""
    found = []
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in (*CONVOLUTIONS, "MatMul") and (weights := _weights(node)) is not None:
            out, shape = list(node.output(0).shape), list(node.input_value(1).shape)
            if kind == "MatMul":
                inner = list(node.input_value(0).shape)[-2 if node.get_attributes()["transpose_a"] else -1]
            else:  # of grouped weights (groups, out, in, ...), of others (out, in, ...)
                inner = prod(shape[2:] if kind == "GroupConvolution" else shape[1:])
            small = weights.get_element_type().to_string() in ("i8", "u8", "int8_t", "uint8_t")
            found.append(Layer(node.get_friendly_name(), kind, prod(out) * inner, small or _is_fake(node, 1)))
    return found


def _weights(node: Any) -> Any:
    """The constant that a layer's second input comes from; None for a product of two activations."""
    source = node.input_value(1).get_node()
    for _ in range(WEIGHTS):
        if source.get_type_name() == "Constant" or not source.inputs():
            break
        source = source.input_value(0).get_node()
    return source if source.get_type_name() == "Constant" else None


def _is_fake(node: Any, index: int) -> bool:
    return node.input_value(index).get_node().get_type_name() == "FakeQuantize"


def eligible(model: Any) -> list[Layer]:
    """Return the layers that can become int8 with a gain: convolutions; products if they do much of the work.

    Products of a few tokens gain no time in int8: what converts their inputs takes as long as they do.
    """
    every = layers(model)
    products = sum(one.work for one in every if one.kind == "MatMul")
    much = products >= PRODUCTS * sum(one.work for one in every)
    return [one for one in every if one.kind in CONVOLUTIONS or much]


def to_int8(model: Any, pictures: Sequence[Array], floats: Sequence[str] = (), loose: bool = False) -> Any:
    """Return a copy of a model whose layers are int8, except those that are named.

    Args:
        model: Of `open_model`.
        pictures: To calibrate on, as the model takes them.
        floats: Names of layers that stay in float, beside those that are not eligible.
        loose: Keep float weights behind the operations that round them, so that a layer can be taken back.

    Raises:
        ValueError: too few pictures.
    """
    if len(pictures) < LEAST:
        raise InputError(f"{len(pictures)} pictures to calibrate on; give at least {LEAST}")
    nncf = import_nncf()
    chosen = {one.name for one in eligible(model)} - set(floats)
    nodes = [(node.get_friendly_name(), node.get_type_name()) for node in model.get_ops()]
    others = [name for name, kind in nodes if name not in chosen and kind not in ("Constant", "Parameter", "Result")]
    with contextlib.redirect_stdout(io.StringIO()):  # its bars
        return nncf.quantize(
            model, nncf.Dataset(pictures), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED, ignored_scope=nncf.IgnoredScope(names=others, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(backend_params={"compress_weights": not loose}),
        )  # fmt: skip


def in_float(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of a `loose` int8 model in which the named layers compute in float again."""
    model, chosen = model.clone(), set(names)
    for node in model.get_ops():
        if node.get_friendly_name() in chosen:
            for index, place in enumerate(node.inputs()):
                if _is_fake(node, index):
                    place.replace_source_output(place.get_source_output().get_node().input_value(0))
    model.validate_nodes_and_infer_types()
    return model


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        floats: Names of the layers that stay in float, the most sensitive first.
        errors: Of the search's outputs with 0, 1, ... of the ranked roles in float, as they were tried.
        ranking: Each role that was asked alone, with the error that is left if its layers stay in float.
        reached: The last error is at most the limit.
        unasked: Roles for which there was no time.
    """

    floats: tuple[str, ...]
    errors: dict[int, float]
    ranking: dict[str, float]
    reached: bool
    unasked: int


@dataclass(frozen=True)
class Comparison:
    """How far an int8 model is from the float one, with some layers in float.

    Attributes:
        loose: The int8 model, of `to_int8`.
        pictures: That both are asked.
        expected: The float model's outputs for each.
        error: Of outputs.
    """

    loose: Any
    pictures: Sequence[Array]
    expected: Sequence[Sequence[Array]]
    error: Error

    def __call__(self, floats: Sequence[Layer]) -> float:
        """Return the mean error over the pictures, if these layers compute in float."""
        answers = _answers(in_float(self.loose, [one.name for one in floats]), self.pictures)
        return sum(map(self.error, self.expected, answers)) / len(self.pictures)


def search(
    model: Any, pictures: Sequence[Array], error: Error, limit: float, seconds: float = 300.0,
    progress: Progress = lambda done, total: None,
) -> Found:  # fmt: skip
    """Find the layers that must stay in float, so that the outputs of the rest in int8 are near enough.

    Layers of one role, such as the last ones of a head at all scales, go together: one alone would change little. Each
    role is taken back to float alone. Those come first that take most error away for their share of the work. As many
    of this ranking stay in float as the limit needs: 0, 1, 2, 3, 4, 6, 8, 12, ..., at most half of all. If the limit is
    out of reach, it is the fewest with nearly the least error: more float layers would cost time and gain nothing.

    Args:
        model: Of `open_model`.
        pictures: To calibrate on. Outputs are compared on some of them, over the whole length of the list.
        error: Of outputs, given those of the float model and those of the int8 model.
        limit: The largest mean error over the pictures.
        seconds: For the ranking; roles that are not reached are not ranked. The last ones are asked first.
        progress: Is told how many roles were asked, and of how many.
    """
    asked = [pictures[len(pictures) * index // ASKED] for index in range(ASKED)]
    compare = Comparison(to_int8(model, pictures, loose=True), asked, _answers(model, asked), error)
    if (whole := compare([])) <= limit:
        return Found((), {0: whole}, {}, True, 0)
    every = roles(eligible(model))
    left = _left_over(every, compare, seconds, progress)
    ranked = _ranked(every, left, whole)
    tried = {0: whole}
    for count in _counts(min(len(ranked), max(1, len(every) // 2))):
        tried[count] = compare(_first(every, ranked, count))
        if tried[count] <= limit:
            break
    near = limit if tried[count] <= limit else ENOUGH * min(tried.values())
    best = next(number for number, left_over in tried.items() if left_over <= near)
    floats = tuple(one.name for one in _first(every, ranked, best))
    return Found(floats, tried, {role: left[role] for role in ranked}, tried[best] <= limit, len(every) - len(left))


def _left_over(
    every: dict[str, list[Layer]], compare: Comparison, seconds: float, progress: Progress
) -> dict[str, float]:
    """The error that is left if the layers of a role alone are in float, for as many roles as there is time for."""
    left, start = dict[str, float](), time.monotonic()
    for role in reversed(every):
        if time.monotonic() - start > seconds:
            break
        left[role] = compare(every[role])
        progress(len(left), len(every))
    return left


def _ranked(every: Mapping[str, list[Layer]], left: Mapping[str, float], whole: float) -> list[str]:
    """Roles by the error that goes away for a share of the work, the most first; no layer is quite without cost."""
    work = {role: sum(one.work for one in some) for role, some in every.items()}
    total = sum(work.values())
    return sorted(left, key=lambda role: (whole - left[role]) / (work[role] / total + FREE), reverse=True)


def _first(every: Mapping[str, list[Layer]], ranked: Sequence[str], count: int) -> list[Layer]:
    return [one for role in ranked[:count] for one in every[role]]


def roles(every: Sequence[Layer]) -> dict[str, list[Layer]]:
    """Return layers by their role: the name, in which the last number alone counts.

    Example:
        >>> list(roles([Layer(f"/head/{scale}/conv.{index}", "Convolution", 9, False)
        ...             for scale in (0, 1, 2) for index in (0, 1)]))
        ['head/#/conv.0', 'head/#/conv.1']
    """
    found: dict[str, list[Layer]] = {}
    for one in every:
        found.setdefault(re.sub(r"\d+(?=.*\d)", "#", str(one)), []).append(one)
    return found


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, ..., and `most`."""
    count = 1
    while count < most:
        yield count
        count = count + 1 if count < 4 else count * 3 // 2 if count & (count - 1) == 0 else count * 4 // 3
    yield most


def _answers(model: Any, pictures: Sequence[Array]) -> list[list[Array]]:
    run = Compiled(model)
    return [run(picture) for picture in pictures]


class Compiled:
    """A model of OpenVINO on the CPU, in one precision for what is not int8.

    Args:
        model: In memory, or a file.
        threads: That a pass works on.
        precision: f32, bf16 or f16, as OpenVINO's hint has it.
    """

    def __init__(self, model: Any, threads: int = 1, precision: str = "f32") -> None:
        openvino = import_openvino()
        properties = openvino.properties
        settings = {
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.hint.inference_precision: getattr(openvino.Type, precision),
            properties.inference_num_threads: threads,
        }
        self.compiled = openvino.Core().compile_model(model, "CPU", settings)
        self.request = self.compiled.create_infer_request()

    def __call__(self, image: Array) -> list[Array]:
        return [value.copy() for value in self.request.infer([image]).values()]

    def ran(self) -> dict[str, int]:
        """Count the convolutions and products by the precision in which the CPU really computes them."""
        counts: dict[str, int] = {}
        for node in self.compiled.get_runtime_model().get_ops():
            told = node.get_rt_info()
            if _word(told, "layerType") in ("Convolution", "GroupConvolution", "FullyConnected", "MatMul"):
                precision = _word(told, "runtimePrecision")
                counts[precision] = counts.get(precision, 0) + 1
        return counts


def _word(told: Any, key: str) -> str:
    value = told[key]
    return str(getattr(value, "value", value))
