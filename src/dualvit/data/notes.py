"""What a conversion leaves out or changes: counted, with the first places of each."""

from collections.abc import Iterable

FIRST = 3  # places that a line names


class Notes:
    """Counts of what was left out or changed, and where.

    Example:
        >>> notes = Notes()
        >>> for name in ("a.jpg", "a.jpg", "b.jpg"):
        ...     notes.add("crowds are left out", name)
        >>> notes.lines()
        ['crowds are left out: 3 (a.jpg, b.jpg)']
    """

    def __init__(self) -> None:
        self._quoted: list[str] = []
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, where: object) -> None:
        """Count one of a kind, at a place."""
        self._places.setdefault(what, []).append(str(where))

    def quote(self, lines: Iterable[str]) -> None:
        """Take over lines that a reader wrote."""
        self._quoted += lines

    def lines(self) -> list[str]:
        """Return the readers' lines, and a line per kind, in the order of their first places."""
        return self._quoted + [f"{what}: {len(places)} ({_first(places)})" for what, places in self._places.items()]


def _first(places: list[str]) -> str:
    distinct = list(dict.fromkeys(places))
    return ", ".join(distinct[:FIRST]) + (f" and {len(distinct) - FIRST} more" if len(distinct) > FIRST else "")
