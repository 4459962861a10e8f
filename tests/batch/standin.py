"""A model for tests of batches: it answers at once, by the mean of each picture."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np


@dataclass
class StandIn:
    """A detector that finds one object per picture, or none in dark ones."""

    task: str = "detect"
    classes: tuple = ("dim", "bright")
    runtime: str = "eager"
    precision: str = "fp32"
    batch: int = 8

    def predict(self, pictures, confidence):
        if pause := float(os.environ.get("STANDIN_SECONDS", 0)):
            time.sleep(pause * len(pictures))
        return [self.answer(np.asarray(picture), confidence) for picture in pictures]

    def answer(self, values, confidence):
        mean = float(values.mean())
        if 3 < mean < 4:  # a picture of the value 3 and a little noise
            raise ValueError("this picture\nmakes the model fail")
        score = round(mean / 255, 5)
        if self.task == "classify":
            return {
                "classes": [{"label": 1, "name": "bright", "score": score}, {"label": 0, "name": "dim", "score": 0.1}]
            }
        if self.task == "semantic":
            runs = {"size": list(values.shape[:2]), "counts": [0, values.shape[0] * values.shape[1]]}
            return {"regions": [{"label": 1, "name": "bright", "share": 1.0, "mask": runs}]}
        if score < confidence:
            return {"objects": []}
        height, width = values.shape[:2]
        one = {"label": int(mean > 128), "name": self.classes[int(mean > 128)], "score": score}
        one["box"] = [1.0, 2.0, width - 1.0, height - 2.0]
        if self.task == "segment":
            one["mask"] = {"size": [height, width], "counts": [height, 2 * height, (width - 3) * height]}
        return {"objects": [one]}


def open_it(model, runtime="auto", weights=None, image_size=None, threads=None):
    """Open the stand-in, as `open_predictor` opens a model; the file says its task."""
    with open(model) as file:  # noqa: PTH123
        task = file.read().strip()
    if task == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return StandIn(task)
