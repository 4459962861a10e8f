"""Which model it is: one sum over the files that a predictor opens, for the server's versions and a batch's plan."""

from hashlib import file_digest, sha256
from pathlib import Path


def digest_of(model: str | Path, weights: str | Path | None = None) -> str:
    """Return a SHA-256 of the files that `open_predictor` opens: of a folder all of them, of a timm name its weights.

    Example:
        >>> digest_of("dualvit_n")[:12]
        '919aa13e3f5e'
    """
    summed = sha256()
    for place in (model, *([] if weights is None else [weights])):
        path = Path(place)
        beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []  # OpenVINO's weights
        for file in (*(sorted(path.rglob("*")) if path.is_dir() else [path]), *beside):
            if file.is_file():
                with file.open("rb") as opened:
                    file_digest(opened, lambda: summed)
            else:
                summed.update(str(place).encode())
    return summed.hexdigest()
