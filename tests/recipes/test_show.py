"""`recipe show` prints each setting with its meaning, in YAML that gives the same recipe again."""

from itertools import pairwise

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes]")

from dualvit.recipes.config import load_recipe, names
from dualvit.recipes.show import commented


@pytest.mark.parametrize("name", names())
def test_a_shown_recipe_is_the_recipe(name, tmp_path):
    recipe = load_recipe(name)
    text = commented(recipe)
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "mine.yaml")) == recipe
    assert max(map(len, text.splitlines())) <= 100


def test_a_meaning_stands_beside_its_setting_or_above_it():
    lines = commented(load_recipe("coco-retinanet-s")).splitlines()
    assert "  batch: 16  # Images in an optimizer step, of all processes together." in lines
    above = lines[lines.index("  short_side: 800") - 2]
    assert above == "  # Pictures are resized to it, in pixels; of several, training picks one for each picture and"
    alone = [line for before, line in pairwise(lines) if "#" not in line and "#" not in before]
    assert not alone


def test_long_values_keep_within_the_lines(tmp_path):
    title = "many words of a title that goes on " * 8 + "# no comment: 'quoted'"
    changes = [f'title="{title}"', "trainer={precision: 16-mixed, devices: [0, 1]}"]
    recipe = load_recipe("laptop-classify", changes)
    text = commented(recipe)
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "mine.yaml")) == recipe
    assert max(map(len, text.splitlines())) <= 100
