"""`dualvit yolo ...`: Ultralytics' own command line, on our YOLO class."""

import sys
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with ultralytics

from dualvit.yolo.layout import OPTIONS
from dualvit.yolo.model import YOLO


def run(arguments: list[str]) -> None:
    """Run Ultralytics' entry point on `arguments`; our options go to `YOLO`.

    Raises:
        ValueError: an option of ours that is no number, or no mapping where one is needed; or a wrong task or mode.
        SyntaxError: a setting that Ultralytics does not have.
    """
    import ultralytics.cfg

    options: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, _, value = argument.lstrip("-").partition("=")
        if key in OPTIONS:
            options[key] = _parse(key, value)
        else:
            rest.append(argument)

    class ConfiguredYOLO(YOLO):
        """YOLO with the options of this command line."""

        def __init__(self, model: str, task: str | None = None, verbose: bool = False) -> None:
            super().__init__(model, task, verbose, **options)

    # The entry point imports the name at its call, and reads the arguments from this list.
    ultralytics.YOLO = ConfiguredYOLO
    ultralytics.cfg.ARGV = ["yolo", *rest]
    sys.argv = ["yolo", *rest]
    try:
        ultralytics.cfg.entrypoint()
    except (SyntaxError, ValueError) as error:  # some of its mistakes carry the whole help
        said, page, _ = str(error).partition(ultralytics.cfg.CLI_HELP_MSG)
        raise type(error)(said) if page else error from None


def _parse(key: str, value: str) -> Any:
    if key in ("backbone", "backbone_weights"):
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
