"""The page on recipes names the settings, and their defaults, that there are."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes]")

from dualvit.recipes import config
from dualvit.recipes.show import meanings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
YAML = {"None": "null", "True": "true", "False": "false", "''": '""', "()": "[]"}


def table():
    yield from ("| setting | default | what |", "| -- | -- | -- |")
    kinds = {
        "network": config.Network,
        "optimizer": config.Optimizer,
        "schedule": config.Schedule,
        "data": config.DataSettings,
    }
    for section, kind in kinds.items():
        words = meanings(kind)
        for field in fields(kind):
            default = "{}" if field.default_factory is not MISSING else repr(field.default)
            default = "required" if default == repr(MISSING) else YAML.get(default, default.strip("'"))
            yield f"| `{section}.{field.name}` | {default} | {words[field.name]} |"


def test_the_table_of_settings():
    assert PAGE.read_text().rstrip().endswith("\n".join(table()))
