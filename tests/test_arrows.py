"""The arrows of the house: which room may import which, held for every file."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted(SOURCE.rglob("*.py"))
# Each room with the rooms that it may import. A small module beside the rooms may import other small ones alone.
ROOMS = {
    "models": (),
    "fast": ("models",),
    "weights": ("models",),
    "backbones": ("models", "fast", "weights"),
    "data": ("weights",),
    "pictures": ("data",),
    "drawn": ("data", "pictures"),
    "report": ("data", "pictures"),
    "explain": ("models", "fast", "weights", "backbones", "data", "pictures", "drawn"),
    "deploy": ("models", "fast", "weights", "backbones", "data", "pictures", "report", "explain"),
    "recipes": ("models", "fast", "weights", "backbones", "data", "pictures", "drawn", "report", "explain"),
    "yolo": ("models", "fast", "weights", "backbones", "data", "pictures", "drawn", "report", "explain"),
    "bench": ("models", "fast", "weights", "backbones", "pictures", "report", "deploy"),
    "batch": ("data", "pictures", "report", "deploy"),
    "serve": ("data", "deploy"),
    "doctor": ("models", "fast", "weights", "backbones", "data", "pictures", "drawn", "report", "recipes"),
    "app": ("models", "fast", "weights", "backbones", "data", "pictures", "drawn", "explain"),
    "compare": (
        "models",
        "fast",
        "weights",
        "backbones",
        "data",
        "pictures",
        "drawn",
        "report",
        "recipes",
        "bench",
        "deploy",
    ),
}
PLUGS = {  # the files through which rooms above plug in
    "dualvit/compare/engine.py": {"yolo"},
    "dualvit/deploy/opening.py": {"yolo", "recipes"},
    "dualvit/deploy/subjects.py": {"yolo"},
    "dualvit/doctor/model.py": {"yolo"},
    "dualvit/explain/opening.py": {"yolo", "recipes"},
    "dualvit/deploy/sources.py": {"yolo", "recipes"},
}
LIBRARIES = {  # a library that few rooms may import
    "ultralytics": ("yolo",),
    "lightning": ("recipes", "compare"),
    "matplotlib": ("pictures",),
    "gradio": ("app",),
}


def imports_of(file: Path) -> set[str]:
    """All modules that a file imports, wherever in the file, as absolute names."""
    package, names = file.relative_to(SOURCE).parent.parts, set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_follow_the_arrows(file):
    parts = file.relative_to(SOURCE).parts
    if parts[0] != "dualvit" or parts[-1] == "__main__.py":
        return  # commands import any room
    room = parts[1] if len(parts) > 2 else ""
    allowed = set(ROOMS) if parts == ("dualvit", "__init__.py") else {room, *ROOMS.get(room, ())}
    allowed |= PLUGS.get(str(file.relative_to(SOURCE)), set())
    names = imports_of(file)
    entered = {name.split(".")[1] for name in names if name.startswith("dualvit.")} & set(ROOMS)
    assert entered <= allowed
    assert "dualvit_cli" not in {name.split(".")[0] for name in names}
    for library, rooms in LIBRARIES.items():
        assert room in rooms or library not in {name.split(".")[0] for name in names}


def test_every_room_is_known():
    rooms = {file.relative_to(SOURCE).parts[1] for file in FILES if len(file.relative_to(SOURCE).parts) > 2}
    assert rooms == set(ROOMS)
