"""Ray, started on this machine or reached at the address of a cluster."""

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dualvit.errors import MissingExtraError, StateError, line_of
from dualvit.provenance import allowed_cores

STORE = 100 << 20  # bytes of Ray's shared memory on this machine: numbers of parts alone go through it
HERE = "127.0.0.1"  # Ray has no passwords: on one machine it listens to this machine alone


@contextmanager
def open_ray(address: str | None, modules: Sequence[str], install: str, remedy: str) -> Iterator[Any]:
    """Open Ray, and leave it again; it prints nothing, and tells nobody that it is used.

    Args:
        address: Of a cluster; None starts Ray on this machine, for as long as it takes.
        modules: What of Ray is needed besides itself.
        install: What to do if it is not installed.
        remedy: What to do if it does not start.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        RuntimeError: it does not start, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = importlib.import_module("ray")
        for module in modules:
            importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError(f"workers need Ray; {install}") from None
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if not address:
        settings |= {"include_dashboard": False, "object_store_memory": STORE, "num_cpus": allowed_cores()}
        settings |= {"_node_ip_address": HERE, "address": "local"}
    else:
        settings |= {"address": address}
    try:
        ray.init(**settings)
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        where = f"the cluster at {address}" if address else "Ray on this machine"
        raise StateError(f"{where} does not start: {line_of(error, 200)}; {remedy}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
