"""Files that a user names, looked for on this machine before Ultralytics looks for them on the network."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from ultralytics.utils import DATASETS_DIR, SETTINGS
from ultralytics.utils.checks import check_file, check_yolov5u_filename
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, GITHUB_ASSETS_STEMS

from dualvit.yolo.register import yaml_names


def require_checkpoint(weights: str | Path) -> None:
    """Stop where a checkpoint is neither here, nor a URL, nor one of Ultralytics' own names, which it fetches.

    A path with a folder is never fetched: who gives one means a file of theirs.

    Raises:
        FileNotFoundError: with the nearest names.
    """
    path = Path(weights)
    if "://" in str(weights) or path.exists() or (Path(SETTINGS["weights_dir"]) / path).exists():
        return
    if len(path.parts) == 1:
        name = str(check_yolov5u_filename(path.name, verbose=False))  # yolov5n.pt is yolov5nu.pt by now
        if name in GITHUB_ASSETS_NAMES or name in GITHUB_ASSETS_STEMS:
            return
    raise FileNotFoundError(f"no checkpoint at {weights}; {_remedy(path)}")


def _remedy(path: Path) -> str:
    beside = [file.name for file in path.parent.iterdir() if not file.is_dir()] if path.parent.is_dir() else []
    known: Iterable[str] = [*beside, *yaml_names(), *GITHUB_ASSETS_NAMES] if len(path.parts) == 1 else beside
    if near := get_close_matches(path.name, list(known), n=3):
        return f"did you mean {', '.join(str(path.with_name(name)) for name in near)}?"
    return "give the .pt or .safetensors file of a run, or a model such as yolov8n-dualvit.yaml or yolov8n.pt"


def require_data(data: str | Path, task: str) -> None:
    """Stop where a data set that is named by its path is not there.

    Data sets that Ultralytics knows by name (coco8.yaml, cifar10) are left to it.

    Raises:
        FileNotFoundError: with what to give instead.
    """
    path = Path(data)
    if "://" in str(data) or path.exists():
        return
    if task == "classify":
        if len(path.parts) > 1 and not (DATASETS_DIR / path).exists():
            raise FileNotFoundError(
                f"no data set at {data}; give a folder with train and val, and in each a folder for each class"
            )
    elif not check_file(str(data), download=False, hard=False):
        raise FileNotFoundError(
            f"no data set at {data}; give the path of a data.yaml, or make one with: dualvit data digits FOLDER"
        )
