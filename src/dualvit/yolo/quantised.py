"""A YOLO checkpoint that `dualvit quantise` exports, and files of it that Ultralytics' own validator scores."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox

from dualvit.data.images import open_rgb
from dualvit.errors import InputError
from dualvit.yolo.checks import read_data, require_data, require_labels
from dualvit.yolo.data import pairs_of
from dualvit.yolo.export import export_onnx
from dualvit.yolo.model import YOLO
from dualvit.yolo.predictions import VALIDATORS, Keeping

Array = np.ndarray[Any, Any]
Run = Callable[[Array], list[Array]]
SEEN = 0.05  # score from which a place of the outputs counts
MEASURES = {"detect": "metrics/mAP50-95(B)", "segment": "metrics/mAP50-95(M)"}


class YoloSubject:
    """A checkpoint of YOLO with a data set.

    Args:
        checkpoint: .pt or .safetensors.
        data: A data.yaml.
        image_size: Both sides in pixels; None takes the size that it was trained at.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: the model is for another task or for other classes, or the labels cannot be read.
    """

    measure = "mAP50-95"

    def __init__(self, checkpoint: Path, data: Path, image_size: int | None) -> None:
        logging.getLogger("ultralytics").setLevel(logging.WARNING)
        self.model, self.data = YOLO(checkpoint), data
        self.task, self.name = str(self.model.task), checkpoint.stem
        if self.task not in MEASURES:
            raise InputError(f"{checkpoint} is a model for {self.task}; give one of task detect or segment")
        require_data(data, self.task)
        self.content = read_data(data)
        require_labels(data, self.content, "val", self.task, every=True)
        own, theirs = list(self.model.names.values()), list(self.content["names"].values())
        if own != theirs:
            raise InputError(
                f"the model knows {', '.join(own[:5])} ({len(own)}), and {data} has {', '.join(theirs[:5])} "
                f"({len(theirs)}); give the data set that it was trained for"
            )
        self.classes = len(own)
        self.image_size = image_size or int(self.model.overrides.get("imgsz", 640))
        if self.image_size % 32:
            raise InputError(f"image size {self.image_size} is no multiple of 32; give one such as 640")

    def export(self, file: Path) -> dict[str, str]:
        """Write the network as ONNX for one picture; return the metadata that Ultralytics' formats have."""
        import onnx

        size = self.image_size
        export_onnx(self.model, self.model.model, torch.zeros(1, 3, size, size), file)
        held = onnx.load(file, load_external_data=False)
        return {one.key: one.value for one in held.metadata_props}

    def training_files(self) -> list[Path]:
        """Return the pictures of the training split, in the order of their names."""
        return sorted(Path(picture) for picture, _ in pairs_of(self.data, self.content, "train"))

    def picture(self, file: Path) -> Array:
        """Return a picture in a square with grey margins, as the validator has it: (1, 3, H, H), from 0 to 1."""
        pixels, size = np.asarray(open_rgb(file)), self.image_size
        share = size / max(pixels.shape[:2])
        height, width = (min(size, int(np.ceil(side * share))) for side in pixels.shape[:2])
        scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        square = LetterBox((size, size), auto=False, scaleup=False)(image=scaled)
        return np.ascontiguousarray(square.transpose(2, 0, 1)[None], dtype=np.float32) / 255  # (1, 3, H, H)

    def score(self, run: Run) -> tuple[float, dict[str, list[dict[str, Any]]]]:
        """Return mAP50-95 of a file on the validation split, and its COCO results by picture."""
        made: list[Keeping] = []

        def make(args: dict[str, Any], _callbacks: Any) -> Keeping:
            made.append(VALIDATORS[self.task](args=args, _callbacks=_callbacks))
            return made[0]

        network, self.model.model = self.model.model, FileNetwork(run, self.model.model)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.model.val(
                    validator=make, data=str(self.data), imgsz=self.image_size, batch=1, rect=False, device="cpu",
                    workers=0, save_json=True, plots=False, verbose=False, project=folder, name="val", exist_ok=True,
                )  # fmt: skip
        finally:
            self.model.model = network
        found: dict[str, list[dict[str, Any]]] = {}
        for file, row in made[0].results:
            found.setdefault(file, []).append(row)
        return float(made[0].metrics.results_dict[MEASURES[self.task]]), found

    def error(self, before: Sequence[Array], after: Sequence[Array]) -> float:
        """Return the mean error of scores plus that of boxes (1 - IoU), over places where one of both sees something.

        Args:
            before: Outputs of a picture; the first is (1, 4 + classes + ..., places), boxes as centre and size.
            after: Likewise.
        """
        boxes, scores = zip(*(self._split(outputs[0][0]) for outputs in (before, after)), strict=True)
        seen = np.maximum(scores[0].max(0), scores[1].max(0)) >= SEEN
        if not seen.any():
            return 0.0
        shift = np.abs(scores[0] - scores[1]).max(0)[seen]
        return float((shift + 1 - overlap(boxes[0][:, seen], boxes[1][:, seen])).mean())

    def _split(self, output: Array) -> tuple[Array, Array]:
        return output[:4], output[4 : 4 + self.classes]


def overlap(first: Array, second: Array) -> Array:
    """Return the IoU of boxes, place by place: (4, N) and (4, N), centres and sizes, to (N,).

    Example:
        >>> float(overlap(np.array([[1.0], [1], [2], [2]]), np.array([[2.0], [1], [2], [2]])).round(2)[0])
        0.33
    """
    low = np.maximum(first[:2] - first[2:] / 2, second[:2] - second[2:] / 2)
    high = np.minimum(first[:2] + first[2:] / 2, second[:2] + second[2:] / 2)
    both = np.clip(high - low, 0, None).prod(0)
    return both / np.maximum(first[2:].prod(0) + second[2:].prod(0) - both, 1e-9)


class FileNetwork(nn.Module):
    """What Ultralytics' validator takes for a network, and which is a file in a runtime.

    Args:
        run: A picture to outputs.
        network: That the file was made of.
    """

    def __init__(self, run: Run, network: Any) -> None:
        super().__init__()
        self.run, self.stride, self.names, self.yaml = run, network.stride, network.names, network.yaml
        self.task, self.end2end = getattr(network, "task", None), False

    def forward(self, image: Tensor, **_: Any) -> Any:
        outputs = [torch.from_numpy(value) for value in self.run(image.numpy())]
        return outputs[0] if len(outputs) == 1 else outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> "FileNetwork":
        return self  # a runtime has no copies, and passes do not change it

    def fuse(self, **_: Any) -> "FileNetwork":
        """Return itself: the file is fused."""
        return self
