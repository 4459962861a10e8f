"""docs/architecture.md tells the truth of the path that an image takes."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
MODELS = ROOT / "src" / "dualvit" / "models"


def ends(file):
    """The last line of each definition of a file, by its first."""
    nodes = ast.walk(ast.parse((MODELS / file).read_text()))
    return {n.lineno: n.end_lineno for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)}


def test_an_image_takes_eight_hops_in_two_files_and_at_most_450_lines():
    hops = re.findall(r"^\| (\d) .*\| (?:the same file|`models/(\w+\.py)`) \| (\d+)-(\d+) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, *_ in hops] == list(range(1, 9))
    lines, file = 0, ""
    for _, named, first, last in hops:
        file = named or file
        assert int(first) in ends(file)
        assert int(last) in ends(file).values()
        lines += int(last) - int(first) + 1
    assert {named for _, named, *_ in hops if named} == {"dual_vit.py", "contract.py"}
    total = int(re.search(r"two files and (\d+) lines", TEXT)[1])
    assert lines < total <= 450


def test_each_room_and_file_that_the_page_names_is_there():
    for name in set(re.findall(r"`((?:models|fast|yolo|compare|weights|data)/\w+\.py)`", TEXT)):
        assert (ROOT / "src" / "dualvit" / name).exists(), name


def test_each_definition_that_the_page_asks_for_is_there():
    """Of the three questions: names in a file's backquotes stand in that file."""
    rows = re.search(r"\| question \| answer \|\n(.*?)\n\n", TEXT, re.DOTALL)[1]
    for name, file in (
        ("SemanticSeed", "models/dual_vit.py"), ("SemanticUpdate", "models/dual_vit.py"),
        ("DualBlock", "models/dual_vit.py"), ("MergeBlock", "models/dual_vit.py"),
        ("build_optimizer", "yolo/trainers.py"), ("regroup", "yolo/groups.py"), ("layer_scales", "yolo/groups.py"),
        ("SCRATCH_LR", "yolo/groups.py"), ("register_mixer", "models/registry.py"),
    ):  # fmt: skip
        assert name in rows
        text = (ROOT / "src" / "dualvit" / file).read_text()
        assert re.search(rf"^\s*(class|def) {name}\b|^{name} = ", text, re.MULTILINE), name
