"""What to say where a name does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that does not exist, with the nearest ones that do."""
    near = get_close_matches(name, list(known), n=3)
    return f"unknown {kind} {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
