"""How the reference reads docstrings: an `Example:` holds a session of Python, and `code` in it stays as it is."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Give the section the name by which griffe knows that it holds code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in an object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
