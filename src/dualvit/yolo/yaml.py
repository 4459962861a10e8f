"""What our model YAMLs write shorter than Ultralytics' do, and the rows that it stands for.

- `backbone: NAME`, or a mapping from scales to names: any timm model. It stands for four rows: the
  backbone (0) and its maps P3/8 (1), P4/16 (2), P5/32 (3), so the neck starts at row 4.
- `backbone_args: {...}`: further options of that model, for `timm.create_model`.
- `like: FILE` and `last: ROW`: everything of another YAML of ours, with another last row.

A loaded YAML holds rows alone. They are what a checkpoint keeps, so it needs nothing of this.
"""

import copy
from typing import Any

from dualvit.backbones.timm_model import plan_backbone
from dualvit.errors import InputError

RENAMED = {"backbone_weights": "weights"}  # words that options had before
OPTIONS = ("backbone", "backbone_args", "weights", "start", "backbone_lr", "layer_decay", "drop_path_rate")


def with_options(d: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a model YAML with its backbone as rows and with the options of `YOLO`.

    A new `backbone` drops the `backbone_args` that the YAML has for its own.

    Raises:
        ValueError: no backbone, options for a YAML without a timm backbone, `backbone_args` that are no mapping, or
            both `start` and `weights`.
    """
    d = copy.deepcopy(d)
    for old, new in RENAMED.items():
        if old in d:
            raise InputError(f"{old} in {d.get('yaml_file', 'this YAML')} is called {new}; rename it")
    args, own = d.pop("backbone_args", None), _mapping(options.get("backbone_args"))
    if "head" in d and not d.get("backbone"):
        if not options.get("backbone"):
            raise InputError(
                f"{d.get('yaml_file', 'this YAML')} needs backbone=NAME, a timm model, such as backbone=convnext_atto"
            )
        d["backbone"] = options["backbone"]
    if isinstance(d.get("backbone"), str | dict):
        spec = {"name": d["backbone"], **_mapping(args)}
        d["backbone"] = [[-1, 1, "TimmBackbone", [spec]], *([0, 1, "FeatureMap", [level]] for level in range(3))]
    rows = [row[3][0] for row in d.get("backbone") or [] if row[2] == "TimmBackbone"]
    if (options or args) and not rows:
        raise InputError(
            f"{next(iter(options), 'backbone_args')} is for models on a timm backbone, which "
            f"{d.get('yaml_file', 'this YAML')} is not; use yolov8n-timm.yaml or yolov8n-dualvit.yaml"
        )
    for spec in rows:
        if options.get("backbone") is not None:
            spec.clear()
            spec["name"] = options["backbone"]
        spec.update(own)
    d |= {key: value for key, value in options.items() if key not in ("backbone", "backbone_args")}
    if not isinstance(d.get("start", False), bool):
        raise InputError(f"start={d['start']!r} is neither True nor False; weights=FILE is for a file of yours")
    if d.get("start") and d.get("weights"):
        raise InputError(f"start and weights={d['weights']} are both given; leave one of them out")
    return d


def _mapping(args: Any) -> dict[str, Any]:
    if args is not None and not isinstance(args, dict):
        raise InputError(f"backbone_args={args!r} is no mapping; give one such as {{drop_rate: 0.1}}")
    return args or {}


def fill_rows(d: dict[str, Any], ch: int) -> dict[str, Any]:
    """A copy of a model YAML in which each backbone row names one timm model and each map its channels.

    A TimmBackbone row's `name` may map scales to names, `{n: dualvit_n, s: dualvit_t, ...}`.
    """
    d = copy.deepcopy(d)
    channels: dict[int, tuple[int, ...]] = {}
    for index, (source, _, module, args) in enumerate(d["backbone"] + d["head"]):
        if module == "TimmBackbone":
            spec = args[0]
            if isinstance(spec["name"], dict):
                scale = d.get("scale") or next(iter(spec["name"]))
                if scale not in spec["name"]:
                    raise InputError(f"the YAML's backbone has no scale {scale!r}; it has {', '.join(spec['name'])}")
                spec["name"] = spec["name"][scale]
            if d.get("drop_path_rate") is not None:
                spec["drop_path_rate"] = d["drop_path_rate"]
            channels[index] = plan_backbone(spec["name"], {k: v for k, v in spec.items() if k != "name"}).channels
            spec["in_chans"] = ch
        elif module == "FeatureMap":
            args.append(channels[source % index if source < 0 else source][args[0]])
    return d
