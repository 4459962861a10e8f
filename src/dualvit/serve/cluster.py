"""Workers on the machines of a Ray cluster, behind the front of one: `dualvit serve --address`.

Ray Serve's own front is not used: it reads a body to its end before the application sees its length, and has no limit
of time for a head or a body. So the front is the same as without a cluster, and each worker is an actor of Ray.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from dualvit.cluster import open_ray
from dualvit.errors import InputError, line_of
from dualvit.serve.limits import Source
from dualvit.serve.process import GoneError, Start
from dualvit.serve.worker import Order, Reply, opened, replies


class Seat:
    """What runs on a machine of the cluster: a model that answers one call after the other."""

    def __init__(self, source: Source, max_pixels: int, ours: str) -> None:
        self.source, self.max_pixels, self.ours = source, max_pixels, ours
        self.predictor: Any = None

    def begin(self) -> dict[str, Any]:
        """Open the model; see `dualvit.serve.process.Process`."""
        if (here := version("dualvit")) != self.ours:
            line = f"a worker has dualvit {here}, and the server {self.ours}; install the same on all machines"
            return {"fault": line}
        self.predictor, said = opened(self.source, self.max_pixels)
        return said

    def ask(self, orders: Sequence[Order] | None) -> list[Reply] | None:
        """See `dualvit.serve.process.Process`."""
        return None if orders is None else replies(self.predictor, orders)


class Remote:
    """An actor of Ray, as a pool sees it: a `dualvit.serve.process.Process`.

    Ray restarts none: the pool starts another one, somewhere in the cluster, and knows of it.
    """

    def __init__(self, ray: Any, source: Source, max_pixels: int) -> None:
        self.ray, self.dead = ray, False
        seats = ray.remote(Seat).options(num_cpus=source.threads, max_restarts=0, scheduling_strategy="SPREAD")
        self.actor = seats.remote(source, max_pixels, version("dualvit"))

    def begin(self) -> dict[str, Any]:
        """See `dualvit.serve.process.Process`."""
        return dict(self._answer(self.actor.begin.remote()))

    def ask(self, orders: Sequence[Order] | None) -> list[Reply] | None:
        """See `dualvit.serve.process.Process`."""
        answers: list[Reply] | None = self._answer(self.actor.ask.remote(orders))
        return answers

    def _answer(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.dead = True
            raise GoneError(line_of(error, 200)) from None

    def is_alive(self) -> bool:
        """Whether it answered the last call: an idle one is called twice per second."""
        return not self.dead

    def kill(self) -> None:
        """See `dualvit.serve.process.Process`."""
        self.dead = True
        self.ray.kill(self.actor)

    def end(self) -> None:
        """See `dualvit.serve.process.Process`."""
        self.kill()


@contextmanager
def on_cluster(address: str, sources: Sequence[Source]) -> Iterator[Start]:
    """Reach a cluster; yields what starts a worker on it.

    Args:
        address: As `ray.init` takes it.
        sources: The models, whose workers must find cores.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        RuntimeError: the cluster cannot be reached.
        ValueError: it has fewer cores than the workers ask for.
    """
    with open_ray(address, (), "install dualvit[serve,batch], or leave --address out", "correct --address") as ray:
        cores = int(ray.cluster_resources().get("CPU", 0))
        wanted = sum(source.workers * source.threads for source in sources)
        if wanted > cores:
            raise InputError(f"the workers need {wanted} cores, and the cluster has {cores}; give fewer --workers")
        yield lambda source, max_pixels: Remote(ray, source, max_pixels)
