"""The benchmark of known evidence as a command runs it: its cost said before, its table, and pictures of its maps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from dualvit.drawn.cues import CUES, draw_cue
from dualvit.explain.benchmark import MOMENTS, Benchmark, Learning, Progress, learnt, run
from dualvit.explain.methods import Method, methods_of
from dualvit.explain.show import map_picture, sheet
from dualvit.explain.subject import Classifier, Found
from dualvit.files import write_atomic
from dualvit.pictures.differences import encoded

METHODS = "relevance,layercam,eigencam"
PICTURES = 60  # of each kind


def run_known(
    methods: str, out: Path, say: Callable[[str], None], progress: Progress, pictures: int = PICTURES,
    learning: Learning | None = None,
) -> tuple[Benchmark, list[Path]]:  # fmt: skip
    """Score methods on pictures whose evidence is known.

    Args:
        methods: Their names, split by commas; all but D-RISE, which takes the longest, if left out.
        out: Keeps the networks, benchmark.json and evidence.png.
        say: Gets a line on the passes before they begin.
        progress: Called with (done, total, what).
        pictures: So many of each kind are explained.
        learning: How the networks learn.

    Returns:
        The results, and the files for people.
    """
    chosen, learning = methods_of(methods or METHODS), learning or Learning()
    passes = sum(_passes(method, learning) for method in chosen)
    say(
        f"{len(CUES)} networks learn in {learning.steps} steps each; then {len(CUES)} times {pictures} pictures with "
        f"{passes} passes each: {len(CUES) * pictures * passes} passes at {learning.size} px"
    )
    found = run(chosen, out, tuple(CUES), pictures, learning, progress)
    write_atomic(out / "evidence.png", encoded(_shown(chosen, out, learning, progress), "PNG"))
    return found, [out / "benchmark.json", out / "evidence.png"]


def _passes(method: Method, learning: Learning) -> int:
    blank = Classifier(torch.nn.Flatten(), ("a",), learning.size, moments=MOMENTS)
    return method.cost(blank, blank.view(Image.new("RGB", (learning.size, learning.size))))


def _shown(methods: Sequence[Method], out: Path, learning: Learning, progress: Progress) -> Image.Image:
    """A picture of each kind, what decides in it, and the map of each method."""
    parts: list[tuple[str, Image.Image]] = []
    for cue in CUES:
        subject = Classifier(learnt(cue, out, learning, progress), CUES[cue].classes, learning.size, moments=MOMENTS)
        cued = draw_cue(cue, learning.seed, "val", 0, learning.size)
        picture = Image.fromarray(cued.image)
        view = subject.view(picture)
        true = Found(cued.label, subject.classes[cued.label], 1.0, 0)
        known = map_picture(picture, view, torch.from_numpy(cued.evidence).float(), true, scale=False)
        parts += [(f"{cue}: {true.name}", picture), ("what decides", known)]
        for method in methods:
            try:
                values = method.map(subject, view, true)
            except Exception:  # its line stands in the table
                parts.append((f"{method.name}: no map", Image.new("RGB", picture.size)))
            else:
                parts.append((method.name, map_picture(picture, view, values, true, scale=False)))
    return sheet(parts, 2 + len(methods))
