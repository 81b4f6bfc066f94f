"""The only ray.init of the project, and what the cluster has to offer."""

import logging
import os
import signal
import threading
import time
from typing import Any

import ray

from pipeline.config import Resources, RunConfig
from pipeline.errors import FailedError, UserError, first_line
from pipeline.plan import Node, Placement, does_not_fit, fits, place
from pipeline.progress import clock, say

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
    if own:  # its workers inherit this; those of another cluster get it as their runtime environment
        for name, value in MALLOC.items():
            os.environ.setdefault(name, value)
    main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            address=address,
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


def nodes() -> list[Node]:
    """The nodes that are alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not alive:
        raise FailedError("the Ray cluster has no living node; start one and run the same command again")
    return [Node(cpus=held.get("CPU", 0), gpus=held.get("GPU", 0), memory=held.get("memory", 0)) for held in alive]


def autoscales() -> bool:
    """Whether an autoscaler may add nodes, so that waiting for one makes sense."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    try:
        config = state.get_cluster_config()
    except Exception:  # a private call: any change in it must not stop a run
        return False
    return bool(config is not None and getattr(config, "node_group_configs", None))


def placement(config: RunConfig, classes: int) -> Placement:
    """Where a run of so many classes goes on the cluster as it is now.

    Waits for a node that can hold an actor where an autoscaler is on (the pending actors are the demand that it
    sees) or ``resources.wait_s`` allows.

    Raises:
        UserError: no node can hold an actor.
    """
    made = place(config, nodes(), classes)
    if fits(made, nodes()) or autoscales():
        return made
    ends = time.monotonic() + config.resources.wait_s
    needed = (made.cpus_per_actor, made.gpus_per_actor)
    if config.resources.wait_s:
        say(f"waiting up to {clock(config.resources.wait_s)} for a node with {needed[0]:g} CPUs and {needed[1]:g} GPUs")
    while not fits(made, nodes()):
        if time.monotonic() >= ends:
            raise does_not_fit(*needed, nodes())
        time.sleep(1)
    return place(config, nodes(), classes)
