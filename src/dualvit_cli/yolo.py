"""The command `dualvit yolo`: Ultralytics' own command line, on our YOLO class."""

import sys
from pathlib import Path
from typing import Any

import typer

from dualvit_cli.shared import importing, keep_memory

NEEDED = {  # what Ultralytics would fill in by itself, with a model, data or pictures that nobody named
    "train": ("model", "data"),
    "val": ("model",),  # a checkpoint knows its data
    "predict": ("model", "source"),
    "track": ("model", "source"),
    "export": ("model",),
    "benchmark": ("model", "data"),
}
FLAGS = ("half", "int8", "nms", "end2end")  # bare words that newer versions take besides their settings


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "help_option_names": ["-h", "--help"],
        },
        options_metavar="TASK MODE model=... data=... key=value",
    )(yolo)


def yolo(context: typer.Context) -> None:
    """The Ultralytics command line with Dual-ViT registered.

    \b
    TASK  detect, segment, classify, pose or obb
    MODE  train, val, predict, track or export

    Models besides Ultralytics' own:

    \b
    yolov8n-dualvit.yaml        also s m l x, and -seg -cls -pose -obb;
                                also yolo11n, yolo12n and yolo26n
    yolov8n-timm.yaml           on any timm backbone, likewise
    yolov8n-c2fdual.yaml        dual blocks in the stock backbone
    yolov8n-c2fdual-neck.yaml   dual blocks in the stock neck
    best.pt, best.safetensors   what training and save_weights wrote

    Options besides Ultralytics' own, for models on a timm backbone:

    \b
    backbone=NAME           any timm model with maps at strides 8, 16 and 32
    backbone_args=MAPPING   its options, such as "{mixer: outlook}"
    weights=FILE            the backbone's checkpoint; every key must match
    start=True              begin from the weights that the package ships
    backbone_lr=FACTOR      the backbone's learning rate is this share of
                            the other layers', in (0, 1]
    layer_decay=FACTOR      each layer's learning rate is this share of
                            that of the layer above, in (0, 1]
    drop_path_rate=RATE     probability that the backbone's last block is
                            left out of a training step; earlier ones less

    A training ends in report.html in its folder, unless report=False is given.
    With evidence=True, an export also says where its boxes come from.

    Examples:

    \b
    dualvit yolo detect train model=yolov8n-dualvit.yaml data=data.yaml
    dualvit yolo segment train model=yolov8n-timm-seg.yaml data=data.yaml \\
        backbone=convnext_atto epochs=100 imgsz=640
    dualvit yolo detect predict model=best.pt source=images

    Ultralytics' own help: dualvit yolo help. Its settings: dualvit yolo cfg.
    """
    if not context.args:
        print(context.get_help())
        return
    with importing():
        import dualvit.yolo  # noqa: F401  # and Ultralytics with it

    keep_memory()
    run(context.args)


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

    from dualvit.yolo.model import YOLO
    from dualvit.yolo.patches import runs_here
    from dualvit.yolo.yaml import OPTIONS, RENAMED

    options: dict[str, Any] = {}
    rest: list[str] = []
    report: bool | None = None
    evidence: bool | int | None = None
    for argument in arguments:
        key, _, value = argument.lstrip("-").partition("=")
        if key in OPTIONS:
            options[key] = _parse(key, value)
        elif key == "report":
            report = _truth(key, value, "it says whether a training ends in report.html")
        elif key == "evidence":
            evidence = int(value) if value.isdecimal() else _truth(key, value, "or give a number of boxes")
        elif key in RENAMED:
            raise ValueError(f"unknown setting {key!r}; it is called {RENAMED[key]}")
        else:
            rest.append(argument)
    mode, settings = _read(merge_equals_args(list(rest)))
    if report is not None and mode != "train":
        raise ValueError(f"report={report} is for train, and the mode is {mode}; leave it out")
    if evidence is not None and mode != "export":
        raise ValueError(f"evidence={evidence} is for export, and the mode is {mode}; leave it out")
    if mode == "val" and "data" not in settings:
        rest.append("data=None")  # older versions would take coco8 here, and not what the checkpoint was trained on

    class ConfiguredYOLO(YOLO):
        """YOLO with the options of this command line."""

        def __init__(self, model: str, task: str | None = None, verbose: bool = False) -> None:
            super().__init__(model, task, verbose, **options)

        def train(self, trainer: Any = None, report: bool = report is not False, **kwargs: Any) -> Any:
            return super().train(trainer, report, **kwargs)

        def export(self, evidence: bool | int = evidence or False, **kwargs: Any) -> Any:
            return super().export(evidence, **kwargs)

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
    """Return the mode, empty for commands such as `settings`, and the names of all settings.

    Raises:
        ValueError: no mode, or it needs a setting that is missing.
    """
    from ultralytics.cfg import DEFAULT_CFG_DICT, MODES, TASKS, check_dict_alignment

    from dualvit.files import read_yaml
    from dualvit.yolo.checks import require_given

    settings: dict[str, str] = {}
    other = False
    for word in arguments:
        name, equals, value = word.removeprefix("--").removesuffix(",").partition("=")
        if equals and name == "cfg" and Path(value).is_file():
            held = read_yaml(Path(value)).items()
            settings = {key: str(content) for key, content in held if content is not None} | settings
        elif equals:
            settings[name] = value
        elif name in TASKS or name in MODES:
            settings["task" if name in TASKS else "mode"] = name
        else:
            other |= not isinstance(DEFAULT_CFG_DICT.get(name), bool) and name not in FLAGS
            settings[name] = "True"
    mode, task = settings.get("mode", ""), settings.get("task", "detect")
    if other:  # `settings` and the like, or a mistake that Ultralytics names
        return mode, set(settings)
    if not mode:
        raise ValueError(
            f"what is to be done is not given; name one of {', '.join(NEEDED)}, such as: "
            "dualvit yolo detect train model=yolov8n-dualvit.yaml data=data.yaml"
        )
    resumed = settings.get("resume", "False").lower() not in ("false", "none")
    missing = [name for name in NEEDED.get(mode, ()) if name not in settings and not (name == "data" and resumed)]
    if missing:  # or mistyped
        check_dict_alignment({**DEFAULT_CFG_DICT, **dict.fromkeys(FLAGS)}, settings)
    require_given(mode, task, missing)
    return mode, set(settings)


def _parse(key: str, value: str) -> Any:
    """Return the value of one of our options."""
    if key in ("backbone", "weights"):
        return value
    if key == "start":
        return _truth(key, value, "weights=FILE is for a file of yours")
    if key == "backbone_args":
        import yaml  # type: ignore[import-untyped]  # comes with ultralytics

        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"{key}={value} is no mapping; give one such as '{{drop_rate: 0.1}}'") from None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{key}={value} is not a number; give one in (0, 1]") from None


def _truth(key: str, value: str, hint: str) -> bool:
    """Return a setting that is True or False.

    Raises:
        ValueError: it is neither.
    """
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{key}={value} is neither True nor False; {hint}")
    return value.lower() == "true"
