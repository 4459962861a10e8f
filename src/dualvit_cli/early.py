"""What commands do first: check before `import dualvit`, which brings torch and timm with it, and keep memory."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


def keep_memory() -> None:
    """Let the allocator keep what the next step of a training or an evaluation will ask for."""
    from dualvit.allocator import keep_freed_memory

    keep_freed_memory()
