"""OpenVINO's cores live as long as the process: freed by another thread than theirs, they would end it.

Its plugin for CPUs gives the thread that loads it another stack for signals, and takes the memory of that stack back
when it is freed. If another thread does that, as Python's garbage collection may, the first thread goes on with a
stack that is gone, and the next signal ends the process without a word: the end of any child, say, once torch has
loaded data in processes. A core that is kept holds some 60 kB.
"""

import functools
import gc
import sys
from typing import Any

_kept: list[Any] = []


def keep_cores() -> None:
    """Keep all cores of OpenVINO from now on, those that are there too; nothing if it is not imported."""
    core = getattr(sys.modules.get("openvino"), "Core", None)
    if core is None or hasattr(core.__init__, "__wrapped__"):
        return
    made = core.__init__

    @functools.wraps(made)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        _kept.append(self)

    core.__init__ = init
    _kept.extend(one for one in gc.get_objects() if type(one) is core)
