"""The connection to Ray: the only ray.init of the project, and the environment of its workers."""

import logging
import os
import signal
import threading

import ray

from pipeline.config.run_config import Resources
from pipeline.errors import UserError
from pipeline.runtime import own_ray
from pipeline.runtime.connection import (
    join_problem,
    require_cluster,
    require_short_temporary_folder,
    shown,
    start_problem,
)
from pipeline.storage import s3

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Settings of glibc, so that a worker keeps the memory of one iteration for the next. An actor computes on a thread of a
pool. Memory that such a thread frees goes back to the system at once, and page faults took a fifth of the CPU time."""


def start(resources: Resources) -> None:
    """Joins the cluster that ``resources.address`` or RAY_ADDRESS names; without either, starts a Ray for this run alone.

    It never attaches to a Ray that happens to run on this machine. A process that is connected already stays connected.

    Raises:
        UserError: the address is one of a Ray Client, the cluster does not answer, or the temporary folder does not suit.
        FailedError: a Ray of this run alone did not start.
    """
    if ray.is_initialized():
        return
    address = resources.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise UserError(
            f"resources.address: given {shown(address)}, a Ray Client address; give the cluster's own address (HOST:6379) on one "
            "of its nodes, or submit the run as a job"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = address == "local"
    # Workers of our own Ray inherit the environment. Those of a cluster need the settings of the storage.
    variables = {} if own else s3.environment()
    if own:  # workers of a cluster get these from ``worker_environment``
        for name, value in MALLOC.items():
            os.environ.setdefault(name, value)
    if own:
        require_short_temporary_folder()
    else:
        require_cluster(address)
    main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": variables} if variables else None,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except SystemExit:  # SIGTERM: ray.init's own handler exits silently
        raise KeyboardInterrupt from None
    except Exception as error:
        raise (start_problem(error) if own else join_problem(address, error)) from None
    if on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)  # ray.init installs its own, which exits silently
    if own:
        own_ray.watch()


def worker_environment() -> dict[str, dict[str, str]]:
    """The runtime environment of an actor: the variables that workers of this cluster lack; empty if there are none."""
    missing = {name: value for name, value in MALLOC.items() if name not in os.environ}
    return {"env_vars": missing} if missing else {}
