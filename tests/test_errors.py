"""A user's mistake is a child of one base class, in every file."""

import ast
import builtins
from pathlib import Path

import pytest

import dualvit
from dualvit import errors

SOURCE = Path(dualvit.__file__).parent
OURS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
MECHANICS = {"NotImplementedError", "AttributeError", "KeyboardInterrupt", "SyntaxError"}  # none of a user's mistakes


def raised(file):
    """The names of the classes that a file raises."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            yield node.exc.func.id


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_raises_an_error_of_pythons_own(file):
    assert {name for name in raised(file) if hasattr(builtins, name)} <= MECHANICS


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_is_a_child_and_pythons_own(kind):
    assert issubclass(kind, dualvit.DualViTError)
    assert kind is errors.DualViTError or len(kind.__bases__) == 2


def test_a_mistake_is_caught_either_way():
    for base in (dualvit.DualViTError, ValueError):
        with pytest.raises(base, match="did you mean dualvit_s"):
            dualvit.create_model("dualvit_ss")
