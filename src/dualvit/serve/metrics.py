"""What a server counts, for Prometheus."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of a server, with a registry of their own.

    Attributes:
        connections: That were accepted.
        requests: By model and status.
        seconds: From the beginning of a request to its answer, by model, of those that got a prediction.
        batches: Pictures that went through a model at once.
        restarts: Workers that were started in place of others.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make: Any = {"registry": self.registry}
        self.connections = Counter("dualvit_connections", "Connections that were accepted", **make)
        self.requests = Counter("dualvit_requests", "Requests for predictions", ("model", "status"), **make)
        self.seconds = Histogram(
            "dualvit_request_seconds", "Time of requests that got a prediction", ("model",), buckets=SECONDS, **make
        )
        self.batches = Histogram(
            "dualvit_batch_pictures", "Pictures per pass", ("model",), buckets=(1, 2, 4, 8, 16, 32), **make
        )
        self.restarts = Counter("dualvit_worker_restarts", "Workers that were replaced", ("model",), **make)
        self.waiting = Gauge("dualvit_waiting", "Requests in the queue", ("model",), **make)
        self.workers = Gauge("dualvit_workers_up", "Workers that are up", ("model",), **make)

    def watch(self, model: str, waiting: Callable[[], float], workers: Callable[[], float]) -> None:
        """Ask a model for the values that are not counted, whenever the page is read."""
        self.waiting.labels(model).set_function(waiting)
        self.workers.labels(model).set_function(workers)
        self.restarts.labels(model)

    def page(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def names(self) -> Iterable[str]:
        """Return the names of the metrics."""
        return sorted(family.name for family in self.registry.collect())
