"""Methods on pictures whose evidence is known: a small network learns what decides, and maps must find it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from PIL import Image
from rich.table import Table
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from dualvit.drawn.cues import CUES, Cued, draw_cue
from dualvit.errors import InputError, line_of
from dualvit.explain.curves import ranks
from dualvit.explain.intervals import Interval, interval
from dualvit.explain.methods import Method
from dualvit.explain.subject import Classifier, Found, Subject
from dualvit.files import write_atomic, write_json
from dualvit.models import create_model
from dualvit.provenance import environment

Progress = Callable[[int, int, str], None]
NEEDED = 0.95  # accuracy, below which maps say nothing about the evidence
VALIDATION = 300  # pictures that the accuracy is measured on
MOMENTS = ((0.5,) * 3, (0.25,) * 3)
MEASURES = ("pointing", "energy", "iou")


@dataclass(frozen=True)
class Learning:
    """How the small network learns.

    Attributes:
        size: Height and width of the pictures in pixels.
        pictures: Of training; they are drawn once.
        steps, batch, lr: Of AdamW; the rate rises, and falls to 0.
        seed: Of pictures, weights and order.
    """

    size: int = 64
    pictures: int = 3000
    steps: int = 180
    batch: int = 32
    lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class CueScore:
    """A method on the pictures of one kind that the network gets right.

    Attributes:
        cue, method: Their names.
        pointing: Whether the largest value lies on the evidence; its mean is a share of pictures.
        energy: Share of what is above 0 that lies on the evidence.
        iou: Of the evidence and as many pixels with the largest values.
    """

    cue: str
    method: str
    pointing: Interval
    energy: Interval
    iou: Interval


@dataclass(frozen=True)
class Trained:
    """A network that learnt one kind of pictures.

    Attributes:
        cue: The kind.
        accuracy: On other pictures than those it learnt from.
        without: Accuracy on the same pictures without what decides: near chance, if the network uses that alone.
        lost: By how much the probability of the true class falls without it, on average.
        area: Mean share of the pixels that are evidence: what energy and pointing are of a map that knows nothing.
    """

    cue: str
    accuracy: float
    without: float
    lost: float
    area: float


@dataclass(frozen=True)
class Benchmark:
    """All results.

    Attributes:
        trained: The network of each kind.
        scores: Of each kind and method.
        notes: A line for each kind or method without scores.
    """

    trained: tuple[Trained, ...]
    scores: tuple[CueScore, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Return the results as a table."""
        table = Table(title="known evidence", box=None, header_style="bold", title_justify="left")
        for column in ("cue", "method", *MEASURES):
            table.add_column(column, justify="left" if column in ("cue", "method") else "right")
        for one in self.trained:
            rows = [score for score in self.scores if score.cue == one.cue]
            for row in rows:
                table.add_row(row.cue, row.method, str(row.pointing), str(row.energy), str(row.iou))
            table.add_row(one.cue, "no knowledge", *(f"{one.area:.3f}",) * 2, f"{one.area / (2 - one.area):.3f}")
            control = f"accuracy {one.accuracy:.2f}, without the cue {one.without:.2f}"
            table.add_row(one.cue, control)
        for note in self.notes:
            table.add_row(note)
        return table


def run(
    methods: Sequence[Method], out: Path, cues: Sequence[str] = tuple(CUES), pictures: int = 60,
    learning: Learning | None = None, progress: Progress = lambda done, total, what: None,
) -> Benchmark:  # fmt: skip
    """Train a network for each kind of pictures, unless it stands in the folder, and score methods on it.

    Args:
        methods: What explains.
        out: Keeps the networks and benchmark.json.
        cues: Kinds of pictures, see `dualvit.drawn.cues`.
        pictures: So many of each kind are explained.
        learning: How the network learns.
        progress: Called with (done, total, what) after each step and picture.

    Raises:
        ValueError: an unknown kind, or no pictures.
    """
    learning = learning or Learning()
    if pictures < 1:
        raise InputError(f"pictures is {pictures}, below 1; give 1 or more")
    trained: list[Trained] = []
    scores: list[CueScore] = []
    notes: list[str] = []
    for cue in cues:
        network = learnt(cue, out, learning, progress)
        subject = Classifier(network, CUES[cue].classes, learning.size, moments=MOMENTS)
        about = controlled(cue, subject, learning)
        trained.append(about)
        if about.accuracy < NEEDED:
            notes.append(f"{cue}: the network reached {about.accuracy:.2f} of {NEEDED}; no scores")
            continue
        for method in methods:
            try:
                scores.append(score(cue, subject, method, pictures, learning, progress))
            except Exception as error:  # whatever a method raises on a network that it does not fit
                notes.append(f"{cue}, {method.name}: {line_of(error)}")
    found = Benchmark(tuple(trained), tuple(scores), tuple(notes))
    settings = {"learning": asdict(learning), "pictures": pictures}
    write_json(out / "benchmark.json", asdict(found) | settings | environment(False))
    return found


def small_network(classes: int) -> nn.Module:
    """Return a `dualvit_n` with narrower stages of one block each."""
    return create_model("dualvit_n", num_classes=classes, dims=(32, 32, 64, 96), depths=(1, 1, 1, 1))


def learnt(cue: str, out: Path, learning: Learning, progress: Progress) -> nn.Module:
    """Return the network of a kind, in evaluation mode: the one in the folder, or one that learns now and is kept.

    Raises:
        ValueError: there is no such kind.
    """
    if cue not in CUES:
        raise InputError(f"no pictures of kind {cue!r} are drawn; give {', '.join(CUES)}")
    file, about = out / f"{cue}.safetensors", json.dumps(asdict(learning), sort_keys=True)
    if file.is_file():
        with safetensors.safe_open(file, "pt") as opened:
            known = (opened.metadata() or {}).get("learning")
        if known == about:
            network = small_network(len(CUES[cue].classes))
            network.load_state_dict(load_file(file))
            return network.eval()
    network = _learn(cue, learning, progress)
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomic(file, save(state, {"learning": about}))
    return network


def _learn(cue: str, learning: Learning, progress: Progress) -> nn.Module:
    drawn = [draw_cue(cue, learning.seed, "train", index, learning.size) for index in range(learning.pictures)]
    images, labels = as_inputs([one.image for one in drawn]), torch.tensor([one.label for one in drawn])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(learning.seed)
        network = small_network(len(CUES[cue].classes)).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=learning.lr, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning.lr, total_steps=learning.steps)
        for step in range(learning.steps):
            rows = torch.randint(learning.pictures, (learning.batch,))
            loss = F.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, learning.steps, f"learning {cue}")
    return network.eval()


def as_inputs(pictures: Sequence[Any]) -> Tensor:
    """Return pictures (size, size, 3) as normalised images (B, 3, size, size)."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in MOMENTS)
    images = torch.stack([torch.from_numpy(one) for one in pictures]).permute(0, 3, 1, 2).float() / 255
    return ((images - mean) / deviation).contiguous()


@torch.no_grad()
def controlled(cue: str, subject: Subject, learning: Learning) -> Trained:
    """Ask a network about pictures that it has not seen, with and without what decides."""
    drawn = [draw_cue(cue, learning.seed, "val", index, learning.size) for index in range(VALIDATION)]
    labels = torch.tensor([one.label for one in drawn])
    with_cue, without = (
        torch.cat([subject.network(rows) for rows in as_inputs(pictures).split(learning.batch)]).softmax(1)
        for pictures in ([one.image for one in drawn], [one.without for one in drawn])
    )
    lost = (with_cue - without).gather(1, labels[:, None]).mean()
    return Trained(
        cue,
        float((with_cue.argmax(1) == labels).float().mean()),
        float((without.argmax(1) == labels).float().mean()),
        float(lost),
        sum(float(one.evidence.mean()) for one in drawn) / len(drawn),
    )


def score(
    cue: str, subject: Subject, method: Method, pictures: int, learning: Learning, progress: Progress
) -> CueScore:
    """Score a method on pictures that the network gets right, of those that it has not seen."""
    rows: dict[str, list[tuple[str, float]]] = {measure: [] for measure in MEASURES}
    for index in range(pictures):
        cued = draw_cue(cue, learning.seed, "val", index, learning.size)
        view = subject.view(Image.fromarray(cued.image))
        with torch.no_grad():
            found = subject.found(subject.answers(subject.network(view.images))[0])[0]
        if found.label == cued.label:
            values = method.map(subject, view, Found(found.label, found.name, found.score, 0))
            for measure, value in located(values, cued).items():
                rows[measure].append((str(index), value))
        progress(index + 1, pictures, f"{cue}, {method.name}")
    return CueScore(cue, method.name, *(interval(rows[measure]) for measure in MEASURES))


def located(values: Tensor, cued: Cued) -> dict[str, float]:
    """Return how well a map (size, size) finds the evidence: pointing game, energy, and IoU at its area.

    Example:
        >>> cued = draw_cue("planted", 0, "val", 0)
        >>> located(torch.from_numpy(cued.evidence).float(), cued)
        {'pointing': 1.0, 'energy': 1.0, 'iou': 1.0}
    """
    evidence = torch.from_numpy(cued.evidence)
    places = ranks(values, torch.ones_like(evidence))  # equal values in a random order
    top = places < float(evidence.float().mean()) - 1e-9
    positive = values.double().clamp(min=0)
    total = float(positive.sum())
    return {
        "pointing": float(evidence.flatten()[places.argmin()]),
        "energy": float(positive[evidence].sum()) / total if total > 0 else 0.0,
        "iou": float((top & evidence).sum()) / float((top | evidence).sum()),
    }
