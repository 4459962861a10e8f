"""docs/troubleshooting.md: each message that it quotes is one that the source still writes."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MESSAGES = re.findall(r"^error: (.+)$", PAGE, re.M)
THEIRS = {"No module named 'onnx'"}  # Python's own
LEAST = 15  # characters that a text of the source has of its own, so that it is no common word


def texts():
    """All texts of the source, as patterns: what is put into one stands for anything."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            else:
                continue
            if sum(len(part) for part in parts if part) >= LEAST:
                yield "".join(".*" if part is None else re.escape(part) for part in parts)


@pytest.fixture(scope="module")
def patterns():
    return [re.compile(text, re.S) for text in set(texts())]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_source_writes_it(message, patterns):
    assert message in THEIRS or any(pattern.search(message) for pattern in patterns)


def test_each_message_is_quoted_once():
    assert len(MESSAGES) == len(set(MESSAGES)) > 40


def test_a_message_of_nobody_is_found(patterns):
    assert not any(pattern.search("the flux of 'digits' is not calibrated; turn it off") for pattern in patterns)
