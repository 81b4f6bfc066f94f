"""The only ray.init of the project, and what the cluster has to offer."""

import logging
import os
import signal
import threading
from typing import Any

import ray

from pipeline.config.run_config import Resources
from pipeline.errors import UserError, first_line
from pipeline.storage import s3

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
"""For glibc, so that a worker keeps the memory of one iteration for the next. An actor computes on a thread of a pool,
and what such a thread frees goes back to the system at once: a fifth of the CPU time went into page faults."""


def start(resources: Resources) -> None:
    """Joins the cluster that ``resources.address`` or RAY_ADDRESS names, else starts one of this run's own.

    It never attaches to a Ray that merely happens to run on this machine. A process that is connected
    already stays connected.

    Raises:
        UserError: a Ray Client address, or a cluster that does not answer.
    """
    if ray.is_initialized():
        return
    address = resources.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise UserError(
            f"resources.address: given {address}, a Ray Client address; give the cluster's own address (HOST:6379) on one "
            "of its nodes, or submit the run as a job"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = address == "local"
    # Workers of an own Ray inherit the environment; on a cluster they must be told how to reach the storage.
    told = {} if own else s3.environment()
    if own:  # its workers inherit this; those of another cluster get it as their runtime environment
        for name, value in MALLOC.items():
            os.environ.setdefault(name, value)
    main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": told} if told else None,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(
            f"resources.address: no Ray cluster answers at {address} ({first_line(error)}); check it with `ray status --address {address}`"
        ) from None
    if on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)  # ray.init puts one of its own there, which exits without a word


def worker_environment() -> dict[str, Any]:
    """The runtime environment of an actor: variables that the workers of this cluster do not have of themselves."""
    missing = {name: value for name, value in MALLOC.items() if name not in os.environ}
    return {"env_vars": missing} if missing else {}
