"""What a file from elsewhere may say: plain values within limits, and no network that its weights do not fill.

A checkpoint, a bundle or a result file is data. Its settings are checked here before anything is built from them.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from dualvit.errors import InputError
from dualvit.meta import on_meta

LARGEST = 65536  # a channel, a grid, a number of blocks
LONGEST = 1024  # items of a list or a mapping, characters of a text
DEEPEST = 8  # mappings and lists inside each other
NAME = re.compile(
    r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64})?"
)  # of a timm network, perhaps with the tag of its weights
WORD = re.compile(r"[\w+-][\w.+-]{0,63}|")  # of an option: no path, no URL, nothing to evaluate
SOURCES = (
    "pretrained",
    "checkpoint",
    "cache_dir",
    "features_only",
)  # how timm's options begin that say where weights are


class StoredError(InputError):
    """A stored setting that is not let through; the message is one line."""


def check_value(value: Any, where: str, depth: int = 0) -> None:
    """Let a plain value through: numbers within limits, words, and lists and mappings of these.

    Raises:
        StoredError: it is something else; the message names its place.

    Example:
        >>> check_value({"mixer": "outlook", "depths": [1, 2]}, "options")
        >>> check_value({"url": "http://x"}, "options")
        Traceback (most recent call last):
        ...
        dualvit.stored.StoredError: options.url is 'http://x'; a stored text is a word, without a path or a URL
    """
    if depth > DEEPEST:
        raise StoredError(f"{where} is nested deeper than {DEEPEST} levels")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int | float):
        if not abs(value) <= LARGEST:  # NaN is not, either
            raise StoredError(f"{where} is {_short(value)}; a stored number lies within {LARGEST}")
    elif isinstance(value, str):
        if not WORD.fullmatch(value):
            raise StoredError(f"{where} is {_short(value)}; a stored text is a word, without a path or a URL")
    elif isinstance(value, Mapping | list | tuple):
        if len(value) > LONGEST:
            raise StoredError(f"{where} has {len(value)} items; {LONGEST} is the most")
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            if isinstance(value, Mapping) and not (isinstance(key, str) and WORD.fullmatch(key)):
                raise StoredError(f"{where} has the key {_short(key)}; a stored key is a word")
            check_value(item, f"{where}.{key}", depth + 1)
    else:
        raise StoredError(f"{where} is a {type(value).__name__}; stored are numbers, words, lists and mappings")


def check_network(name: Any, options: Any, where: str) -> None:
    """Let a timm network through that a file names, with its options.

    Raises:
        StoredError: no plain name (of a hub, say), or an option that would fetch or open a file.
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise StoredError(f"{where}.name is {_short(name)}; a stored network has a plain name of timm's")
    if not isinstance(options, Mapping):
        raise StoredError(f"{where}.options is {_short(options)}; it must be a mapping")
    for key in options:
        if str(key).startswith(SOURCES):
            raise StoredError(f"{where} sets {key}; a file brings its own weights and names no others")
    check_value(options, f"{where}.options")


def check_classes(names: Any, where: str) -> None:
    """Let class names through: texts that stay one folder's name, since pictures are sorted into folders by class.

    Raises:
        StoredError: a name that is no text, too long, or leads out of a folder.
    """
    for name in names:
        if not isinstance(name, str) or len(name) > LONGEST or not name.isprintable():
            raise StoredError(f"{where} has {_short(name)}; a class name is a text of at most {LONGEST} characters")
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if ".." in path.parts or path.anchor:
                raise StoredError(f"{where} has {_short(name)}, which leads out of a folder; rename the class")


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Let weights through that are numbers.

    Raises:
        StoredError: one holds NaN or infinity.
    """
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value.float() if value.itemsize < 2 else value).all()):
            raise StoredError(f"{name} holds NaN or infinite values")


@contextmanager
def filled_by(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, networks are built on the meta device, and none that is far larger than `weights`.

    Parameters, buffers and modules are counted as they are registered, so that a number that a file gives cannot
    make a build take all memory or go on for ever. A build may count a weight several times (timm takes networks
    apart to make feature extractors).

    Raises:
        StoredError: the network is larger than the weights that are there for it.
    """
    values, entries = 16 * sum(w.numel() for w in weights.values()) + (1 << 24), 20 * len(weights) + 4_000

    def count(_: nn.Module, name: str, registered: Any) -> None:
        nonlocal values, entries
        entries -= 1
        values -= registered.numel() if isinstance(registered, Tensor) else 0
        if entries < 0 or values < 0:
            raise StoredError("it describes a network that is larger than the weights in it")

    with ExitStack() as stack:
        for register in (
            registration.register_module_parameter_registration_hook,
            registration.register_module_buffer_registration_hook,
            registration.register_module_module_registration_hook,
        ):
            stack.callback(register(count).remove)
        stack.enter_context(on_meta())
        yield


def check_shapes(network: nn.Module, weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Let weights through that fill a network: the same names and shapes, numbers of the same kind.

    Raises:
        StoredError: naming the first entry that does not fit.
    """
    own = {f"{prefix}{name}": value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    for name in [*own, *weights]:
        if name not in own or name not in weights:
            raise StoredError(
                f"{name} is {'not in the file' if name in own else 'no part of the network that it names'}"
            )
        mine, theirs = own[name], weights[name]
        if mine.shape != theirs.shape or mine.is_floating_point() != theirs.is_floating_point():
            raise StoredError(
                f"{name} is {tuple(theirs.shape)} of {theirs.dtype}, and the network that it names has "
                f"{tuple(mine.shape)} of {mine.dtype}"
            )


def _short(value: Any) -> str:
    text = " ".join(repr(value).split()) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."
