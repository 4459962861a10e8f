"""What the commands share: printing, progress, checks before torch is imported, and the style of their options."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

console = Console()


@contextmanager
def before_torch() -> Iterator[None]:
    """Let modules of `dualvit` that need no torch be imported while the package itself is not.

    An empty package stands in for it meanwhile. It is gone afterwards, with its modules, and `import dualvit` then
    does all that it does elsewhere, such as to register the models. Nothing happens if the package is imported already.
    """
    spec = importlib.util.find_spec("dualvit")
    if "dualvit" in sys.modules or spec is None:
        yield
        return
    sys.modules["dualvit"] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "dualvit"]:
            del sys.modules[name]


with before_torch():  # so that a command can show that libraries are imported, before they are
    from dualvit.progress import LIBRARIES, importing, working

__all__ = ["LIBRARIES", "Changes", "Command", "before_torch", "console", "importing", "keep_memory", "say", "working"]

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting that changes, such as data.root=FOLDER; its value is read as YAML. Repeat it for each setting.",
    ),
]


class Command(TyperCommand):
    """A command that names what an old or a bare word is called."""

    RENAMED: Mapping[str, str] = {
        "--sizes": "--image-size", "--size": "--image-size", "--checkpointing": "--grad-checkpointing",
    }  # fmt: skip

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            ValueError: a `key=value` without `--set`, or an option by its old name.
        """
        options = {name for parameter in self.params for name in parameter.opts}
        for word in (arg.partition("=")[0] for arg in args):
            new = self.RENAMED.get(word)
            if word not in options and new in options:
                raise ValueError(f"unknown option {word}; it is called {new}")
        strict, context.allow_extra_args = context.allow_extra_args, True
        rest: list[str] = super().parse_args(context, args)
        context.allow_extra_args = strict
        if rest and not strict and not context.resilient_parsing:
            if "--set" in options and "=" in rest[0]:
                raise ValueError(f"{rest[0]!r} stands alone; write --set {rest[0]}")
            context.fail(f"Got unexpected extra argument ({' '.join(rest)})")
        return rest


def keep_memory() -> None:
    """Let the allocator keep what the next step of a training or an evaluation will ask for."""
    from dualvit.allocator import keep_freed_memory

    keep_freed_memory()


def say(line: str) -> None:
    """Print a line as it is: a path may hold what rich takes for its markup, and no line is broken."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
