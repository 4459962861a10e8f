"""`dualvit yolo ...`: Ultralytics' own command line, on our YOLO class."""

import sys

from dualvit.yolo.model import YOLO
from dualvit.yolo.train import OPTIONS


def run(arguments: list[str]) -> None:
    """Run Ultralytics' entry point on `arguments`; our four options go to `YOLO`.

    Raises:
        ValueError: an option of ours that is no number.
    """
    import ultralytics.cfg

    options: dict[str, str | float] = {}
    rest = []
    for argument in arguments:
        key, _, value = argument.lstrip("-").partition("=")
        if key in OPTIONS:
            options[key] = value if key == "backbone_weights" else _number(key, value)
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
    ultralytics.cfg.entrypoint()


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{key}={value} is not a number; give one in (0, 1]") from None
