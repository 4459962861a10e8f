"""`dualvit yolo ...`: Ultralytics' own command line, on our YOLO class."""

import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with ultralytics

from dualvit.files import read_yaml
from dualvit.yolo.checks import require_given
from dualvit.yolo.model import YOLO
from dualvit.yolo.patches import runs_here
from dualvit.yolo.yaml import OPTIONS

NEEDED = {  # what Ultralytics would fill in by itself, with a model, data or pictures that nobody named
    "train": ("model", "data"),
    "val": ("model",),  # a checkpoint knows its data
    "predict": ("model", "source"),
    "track": ("model", "source"),
    "export": ("model",),
    "benchmark": ("model", "data"),
}
FLAGS = ("half", "int8", "nms", "end2end")  # bare words that newer versions take besides their settings


def run(arguments: list[str]) -> None:
    """Run Ultralytics' entry point on `arguments`; our options go to `YOLO`.

    Raises:
        ValueError: an option of ours that is no number, or no mapping where one is needed; a wrong task or mode; or
            no mode, model, data or source.
        SyntaxError: a setting that Ultralytics does not have.
    """
    import ultralytics.cfg
    import ultralytics.engine.model
    from ultralytics.cfg import merge_equals_args

    options: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, _, value = argument.lstrip("-").partition("=")
        if key in OPTIONS:
            options[key] = _parse(key, value)
        else:
            rest.append(argument)
    mode, given = _read(merge_equals_args(list(rest)))
    if mode == "val" and "data" not in given:
        rest.append("data=None")  # older versions would take coco8 here, and not what the checkpoint was trained on

    class ConfiguredYOLO(YOLO):
        """YOLO with the options of this command line."""

        def __init__(self, model: str, task: str | None = None, verbose: bool = False) -> None:
            super().__init__(model, task, verbose, **options)

    argv = ["yolo", *rest]
    replaced: list[tuple[Any, str, Any]] = [
        (ultralytics, "YOLO", ConfiguredYOLO),  # the entry point imports the name at its call
        (ultralytics.cfg, "ARGV", argv),  # and reads its arguments here
        (sys, "argv", argv),
        # On a command line of this name, pictures are saved and shown frame by frame, and none is kept.
        (ultralytics.engine.model, "ARGV", ["yolo", mode]),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        with runs_here():
            ultralytics.cfg.entrypoint()
    except (SyntaxError, ValueError) as error:  # some of its mistakes carry the whole help
        said, page, _ = str(error).partition(ultralytics.cfg.CLI_HELP_MSG)
        raise type(error)(said) if page else error from None
    finally:
        for owner, name, previous in before:
            setattr(owner, name, previous)


def _read(arguments: list[str]) -> tuple[str, set[str]]:
    """The mode, empty for commands such as `settings`, and the names of what is given.

    Raises:
        ValueError: no mode, or something is missing that it needs.
    """
    from ultralytics.cfg import DEFAULT_CFG_DICT, MODES, TASKS, check_dict_alignment

    given: dict[str, str] = {}
    other = False
    for word in arguments:
        name, equals, value = word.removeprefix("--").removesuffix(",").partition("=")
        if equals and name == "cfg" and Path(value).is_file():
            held = read_yaml(Path(value)).items()
            given = {key: str(content) for key, content in held if content is not None} | given
        elif equals:
            given[name] = value
        elif name in TASKS or name in MODES:
            given["task" if name in TASKS else "mode"] = name
        else:
            other |= not isinstance(DEFAULT_CFG_DICT.get(name), bool) and name not in FLAGS
            given[name] = "True"
    mode, task = given.get("mode", ""), given.get("task", "detect")
    if other:  # `settings` and the like, or a mistake that Ultralytics names
        return mode, set(given)
    if not mode:
        raise ValueError(
            f"what is to be done is not given; name one of {', '.join(NEEDED)}, such as: "
            "dualvit yolo detect train model=yolov8n-dualvit.yaml data=data.yaml"
        )
    resumed = given.get("resume", "False").lower() not in ("false", "none")
    missing = [name for name in NEEDED.get(mode, ()) if name not in given and not (name == "data" and resumed)]
    if missing:  # or mistyped
        check_dict_alignment({**DEFAULT_CFG_DICT, **dict.fromkeys(FLAGS)}, given)
    require_given(mode, task, missing)
    return mode, set(given)


def _parse(key: str, value: str) -> Any:
    if key in ("backbone", "weights"):
        return value
    if key == "backbone_args":
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"{key}={value} is no mapping; give one such as '{{drop_rate: 0.1}}'") from None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{key}={value} is not a number; give one in (0, 1]") from None
