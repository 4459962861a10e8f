"""How our rows get into an unmodified Ultralytics: names, channel rules and YAML files.

Ultralytics has no plug-in interface. Its `parse_model` looks a row's class up among the globals of
`ultralytics.nn.tasks` and finds the channel rule by testing membership in fixed sets of classes.
So registration (a) sets our classes there, (b) gives them a metaclass that compares equal to the
stock class whose rule they follow, and (c) wraps two functions: `parse_model`, to fill in what a
row cannot know (the scale's backbone, its channels), and `yaml_model_load`, to find our YAML files
by name.
"""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ultralytics
import ultralytics.engine.model as engine_model
import ultralytics.nn.tasks as tasks

CFG = Path(__file__).parent / "cfg"


def parses_like(stock: type) -> type:
    """A metaclass whose classes compare equal to `stock`, so that Ultralytics parses them by its rule."""

    class ParsesLike(type):
        def __eq__(cls, other: object) -> bool:
            return other is stock or other is cls

        def __hash__(cls) -> int:
            return hash(stock)

    return ParsesLike


def register(*modules: type) -> None:
    """Make `modules` known to Ultralytics under their class names; calling it again changes nothing.

    Raises:
        RuntimeError: Ultralytics has another class of that name, or parses our rows wrongly.
    """
    for module in modules:
        present = vars(tasks).get(module.__name__)
        if present is not None and present is not module:
            raise RuntimeError(
                f"ultralytics {ultralytics.__version__} already has a module named {module.__name__!r}; "
                "use a version that dualvit supports"
            )
        setattr(tasks, module.__name__, module)
    if not hasattr(tasks.parse_model, "dualvit"):
        tasks.parse_model = _wrap(tasks.parse_model, _parse_model)
        wrapped = _wrap(tasks.yaml_model_load, _yaml_model_load)
        tasks.yaml_model_load = engine_model.yaml_model_load = wrapped
        _self_test()


def _wrap(stock: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    wrapper = functools.wraps(stock)(functools.partial(ours, stock))
    wrapper.dualvit = True  # type: ignore[attr-defined]
    return wrapper


def _parse_model(stock: Callable[..., Any], d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
    return stock(fill_rows(d, ch), ch, verbose=verbose)


def fill_rows(d: dict[str, Any], ch: int) -> dict[str, Any]:
    """A copy of a model YAML in which each backbone row names one timm model and each map its channels.

    A TimmBackbone row's `name` may map scales to names, `{n: dualvit_n, s: dualvit_t, ...}`.
    """
    from dualvit.yolo.modules import detection_levels

    d = copy.deepcopy(d)
    rows = d["backbone"] + d["head"]
    channels: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        source, _, module, args = row
        if module == "TimmBackbone":
            spec = args[0]
            if isinstance(spec["name"], dict):
                scale = d.get("scale") or next(iter(spec["name"]))
                spec["name"] = spec["name"][scale]
            spec["in_chans"] = ch
            if d.get("drop_path_rate") is not None:
                spec["drop_path_rate"] = d["drop_path_rate"]
            channels[index] = [width for _, width in detection_levels(spec["name"])]
        elif module == "FeatureMap":
            args.append(channels[source % index if source < 0 else source][args[0]])
    return d


def _yaml_model_load(stock: Callable[..., Any], path: str | Path) -> Any:
    if Path(path).exists():
        return stock(path)
    shipped = find_yaml(path)
    if shipped is None:
        return stock(path)
    d = stock(shipped)
    d["scale"] = tasks.guess_model_scale(path)
    d["yaml_file"] = str(path)
    return d


def find_yaml(path: str | Path) -> Path | None:
    """Our YAML file for a name such as `yolov8n-dualvit-seg.yaml`, or None."""
    name = Path(path).name
    for file in sorted(CFG.glob("*.yaml")):
        family, _, rest = file.name.partition("-")
        if name in {file.name, *(f"{family}{scale}-{rest}" for scale in "nsmlx")}:
            return file
    return None


def yaml_names() -> list[str]:
    """The names under which our YAML files are asked for, at scale n."""
    return sorted(file.name.replace("yolov8-", "yolov8n-", 1) for file in CFG.glob("*.yaml"))


def _self_test() -> None:
    """Parse a three-row YAML and compare channels, repeats and strides with what they must be."""
    import torch

    rows = [
        [-1, 1, "TimmBackbone", [{"name": "dualvit_n"}]],
        [0, 1, "FeatureMap", [1]],
        [-1, 2, "C2fDual", [256]],
    ]
    yaml = {"nc": 1, "scales": {"n": [1.0, 0.5, 1024]}, "scale": "n", "backbone": rows, "head": []}
    try:
        with torch.device("meta"):
            model, _ = tasks.parse_model(yaml, ch=3, verbose=False)
            maps = model[0](torch.empty(1, 3, 64, 64))
            out = model[2](model[1](maps))
        strides = [64 // m.shape[-1] for m in maps]
        found = (tuple(out.shape), len(model[2].m), strides)
    except Exception as error:
        found = (f"{type(error).__name__}: {error}",)  # type: ignore[assignment]
    if found != ((1, 128, 4, 4), 2, [8, 16, 32]):
        raise RuntimeError(
            f"ultralytics {ultralytics.__version__} parses dualvit's rows wrongly ({found}); "
            "install a version from 8.2.103 on, below 9"
        )
