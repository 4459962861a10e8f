"""The methods that explain a found object or class, by name: each makes a map over the images, on a raw scale."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dualvit.errors import InputError
from dualvit.explain.cams import eigen_cam, layer_cam
from dualvit.explain.drise import Masks, drise
from dualvit.explain.evidence import evidence
from dualvit.explain.relevance import STEPS, relevance
from dualvit.explain.subject import Found, Subject, View, enlarged

Run = Callable[[Subject, View, Found], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
        name: What tables call it.
        passes: Forward passes of one map, or what counts them.
        run: Makes the map, float (h, w) over `view.images`, of any resolution and on its raw scale: more is more
            evidence for the object, and below 0 is evidence against it.
        unit: What one unit of the map is.
    """

    name: str
    passes: int | Callable[[Subject, View], int]
    run: Run
    unit: str = ""

    def cost(self, subject: Subject, view: View) -> int:
        """Return the forward passes that one map takes; it is known before the first one."""
        return self.passes if isinstance(self.passes, int) else self.passes(subject, view)

    def map(self, subject: Subject, view: View, found: Found) -> Tensor:
        """Return the map, (H, W) of the images.

        Raises:
            ValueError: the map is not finite, or no map.
        """
        values = self.run(subject, view, found).detach().float()
        if values.ndim != 2 or not torch.isfinite(values).all():
            raise InputError(f"{self.name} gave no finite map for {found.name}; leave the method out for this model")
        return enlarged(values, view.images.shape[2:])


def drise_method(masks: Masks) -> Method:
    """Return D-RISE with other settings than those of the registry.

    Example:
        >>> drise_method(Masks(count=5000)).passes
        5000
    """

    def run(subject: Subject, view: View, found: Found) -> Tensor:
        return drise(subject, view, found, masks)

    return Method("drise", masks.count, run, "score that a visible spot adds")


METHODS = {
    method.name: method
    for method in (
        Method("relevance", STEPS + 1, relevance, "logit per pixel"),
        Method("layercam", 1, layer_cam, "logit per pixel"),
        Method("eigencam", 1, eigen_cam, "share of each layer's largest value"),
        drise_method(Masks()),
        Method("evidence", 1, evidence, "share"),
    )
}


def methods_of(names: str) -> list[Method]:
    """Return the methods of a list with commas, in its order.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> [method.name for method in methods_of("drise, layercam")]
        ['drise', 'layercam']
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in METHODS:
            raise InputError(f"method {name!r} is unknown; give some of {', '.join(METHODS)}")
    if not wanted:
        raise InputError(f"no method is named; give some of {', '.join(METHODS)}")
    return [METHODS[name] for name in dict.fromkeys(wanted)]
