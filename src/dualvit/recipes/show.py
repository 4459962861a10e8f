"""A recipe printed in full: YAML that `fit` takes, with the meaning of each setting beside it."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

from dualvit.recipes.config import Recipe, plain

COLUMNS = 100


def commented(recipe: Recipe) -> str:
    """Return a recipe as YAML of at most 100 columns, whose comments are the settings' docstrings.

    A single word that is longer than that, such as a path, stays in one piece.
    """
    return "\n".join(_lines(recipe, plain(recipe), "")) + "\n"


def meanings(kind: type[Any]) -> dict[str, str]:
    """Return the meaning of each setting of a dataclass, from the Attributes of its docstring and of its bases'.

    Example:
        >>> from dualvit.recipes.config import Optimizer
        >>> meanings(Optimizer)["lr"]
        'Learning rate at its highest.'
    """
    words: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        # Further lines of a meaning are indented.
        for name, text in re.findall(r"^        (\w+): (.*(?:\n {12}.*)*)$", base.__doc__ or "", re.M):
            words[name] = " ".join(text.split())
    return words


def _lines(settings: Any, values: dict[str, Any], indent: str) -> Iterator[str]:
    words = meanings(type(settings))
    for name in (field.name for field in fields(settings)):
        inner = getattr(settings, name)
        if is_dataclass(inner):
            yield from _beside(f"{indent}{name}:", words.get(name) or _summary(type(inner)), indent)
            yield from _lines(inner, values[name], indent + "  ")
        else:
            value = values[name]
            flow = None if isinstance(value, list | dict) else False  # None puts a short list into the line of its name
            text = yaml.safe_dump(
                {name: value}, sort_keys=False, allow_unicode=True, width=COLUMNS - 20, default_flow_style=flow
            )
            yield from _beside(textwrap.indent(text.rstrip(), indent), words[name], indent)


def _summary(kind: type[Any]) -> str:
    return str(kind.__doc__).partition("\n")[0]


def _beside(text: str, meaning: str, indent: str) -> Iterator[str]:
    """Yield a setting with its meaning behind it, or above it if both do not fit into a line."""
    line = f"{text}  # {meaning}"
    if "\n" not in text and len(line) <= COLUMNS:
        yield line
    else:
        yield from textwrap.wrap(
            meaning, COLUMNS, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False
        )
        yield text
