"""A student in training: its maps are held against a teacher's, or its guess against the formula of a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from dualvit.backbones.maps import AS_THEY_ARE
from dualvit.errors import InputError
from dualvit.recipes.pretrain.config import PretrainRecipe
from dualvit.recipes.pretrain.network import Guide, Student, cosines
from dualvit.recipes.task import Task

SMALLEST = 1e-3  # deviation of a channel; one that is nearly constant is not blown up
Batch = tuple[Tensor, Tensor]


class Pretrain(Task):
    """A student; its score is how much of the teacher it explains: the cosine of their maps, the mean over strides."""

    metric = "cosine"
    recipe: PretrainRecipe
    network: Student
    means: Any  # of each score, over a validation
    shift: Tensor
    scale: Tensor

    def __init__(self, recipe: PretrainRecipe, classes: tuple[str, ...]) -> None:
        super().__init__(recipe, classes, Student(recipe))
        if self.network.teacher is None:
            self.metric = "top1"  # type: ignore[misc]
        names = [f"cosine{stride}" for stride in recipe.match.strides] if self.network.teacher else ["top1"]
        names += ["semantics"] * (len(self.network.heads) > len(names))
        self.means = nn.ModuleDict({name: MeanMetric() for name in names})
        own = self.network.maps.moments() if recipe.match.normalise else AS_THEY_ARE
        self.register_buffer("shift", torch.tensor(own[0]).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(own[1]).view(-1, 1, 1), persistent=False)
        self._guide: list[Guide] = []  # in a list, so that it is no module of the task, and no checkpoint holds it

    def backbone(self) -> nn.Module:
        return self.network.features

    def setup(self, stage: str) -> None:
        """Open the teacher; it is needed where pictures are looked at, and not where a checkpoint is exported."""
        teacher = self.recipe.teacher
        if self.network.teacher is None or self._guide:
            return
        if teacher.weights is None:
            raise InputError(f"the teacher {teacher.name} is needed; give --set teacher.weights=FILE")
        self._guide.append(Guide(self.network.teacher, teacher.weights).to(self.device))

    def on_fit_start(self) -> None:
        """Find the moments by which the teacher's channels are whitened, once in a run."""
        if self.network.teacher is None or float(self.network.deviation.max()):
            return
        if not self.recipe.match.whiten:
            self.network.deviation.fill_(1.0)
            return
        sums = torch.zeros(3, sum(self.network.channels), device=self.device)
        for batch in self.trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
            if batch is None:
                continue
            maps = self._guide[0](batch[0].to(self.device))
            moments = (torch.stack([torch.ones_like(one), one, one.square()]).sum((1, 3, 4)) for one in maps)
            sums += torch.cat(list(moments), dim=1)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        count, first, second = sums
        if not count.min():
            raise InputError(f"none of the pictures of {self.recipe.data.root} that were looked at can be read")
        self.network.mean.copy_(first / count)
        self.network.deviation.copy_((second / count - self.network.mean.square()).clamp(min=0).sqrt().clamp(SMALLEST))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        images, labels = batch
        guesses = self._guesses(images)
        if self.network.teacher is None:
            return {"class": F.cross_entropy(guesses[0], labels)}
        match, parts = self.recipe.match, {}
        names = [*(f"stride {stride}" for stride in match.strides), "semantics"][: len(guesses)]
        for name, guess, target in zip(names, guesses, self._targets(images, guesses), strict=True):
            guess = guess.float()
            loss = match.distance * F.smooth_l1_loss(guess, target) + match.cosine * (1 - cosines(guess, target).mean())
            parts[name] = loss * (self.network.semantics if name == "semantics" else 1 / len(match.strides))
        return parts

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        if batch is None:  # none of its pictures could be read
            return
        images, labels = batch
        guesses = self._guesses(images)
        if self.network.teacher is None:
            self.means["top1"].update((guesses[0].argmax(1) == labels).float())
            return
        for mean, guess, target in zip(self.means.values(), guesses, self._targets(images, guesses), strict=True):
            mean.update(cosines(guess.float(), target))

    def scores(self) -> Mapping[str, float]:
        scores = {name: float(mean.compute()) for name, mean in self.means.items()}
        for mean in self.means.values():
            mean.reset()
        maps = [value for name, value in scores.items() if name.startswith("cosine")]
        return {"cosine": sum(maps) / len(maps), **scores} if maps else scores

    def predict_one(self, file: Path, out: Path, name: str, content: dict[str, list[Any]]) -> str:
        raise InputError("a pretrained network predicts nothing yet; export it, and train it by another recipe")

    def _guesses(self, images: Tensor) -> list[Tensor]:
        seen = ((images - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        guesses: list[Tensor] = self.network(seen)
        return guesses

    def _targets(self, images: Tensor, guesses: list[Tensor]) -> list[Tensor]:
        maps = self._guide[0](images.contiguous(memory_format=torch.channels_last))
        return self.network.targets([one.float() for one in maps], guesses[-1].shape[-2:])
