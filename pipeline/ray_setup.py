"""The only ray.init of the project, and what the cluster has to offer."""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from pipeline import gpu_memory, s3
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


def nodes() -> list[Node]:
    """The nodes that are alive."""
    return [_node(node) for node in _alive()]


def measured_nodes(resources: Resources) -> list[Node]:
    """The same, with the memory of their GPUs where actors will take GPUs and the nodes can tell."""
    alive = _alive()
    wanted = resources.gpus_per_actor != 0
    memory = gpu_memory.of_nodes([one["NodeID"] for one in alive if wanted and one["Resources"].get("GPU")])
    return [_node(one, memory.get(one["NodeID"], 0.0)) for one in alive]


def _alive() -> list[dict[str, Any]]:
    alive = [node for node in ray.nodes() if node["Alive"]]
    if not alive:
        raise FailedError("the Ray cluster has no living node; start one and run the same command again")
    return alive


def _node(told: dict[str, Any], gpu_memory: float = 0.0) -> Node:
    held = told["Resources"]
    return Node(cpus=held.get("CPU", 0), gpus=held.get("GPU", 0), memory=held.get("memory", 0), gpu_memory=gpu_memory)


def free(resource: str) -> tuple[float, float]:
    """How much of a resource (CPU, GPU) is free in the whole cluster, and how much there is; zeros where that cannot be read now."""
    try:
        return ray.available_resources().get(resource, 0.0), ray.cluster_resources().get(resource, 0.0)
    except (RayError, RuntimeError):
        return 0.0, 0.0


def starting(actors: Iterable[Any]) -> int:
    """How many of the actors have their place on a node already and are only starting, which takes longer on a busy one."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    try:
        told = [state.actor_table(actor._actor_id.hex()) or {} for actor in actors]
    except Exception:  # a private call: any change in it must not stop a run
        return 0
    return sum(one.get("State") == "PENDING_CREATION" and bool(one.get("Pid")) for one in told)


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

    Waits for a node that can hold an actor as long as ``resources.wait_s`` allows, and asks an autoscaler for one.

    Raises:
        UserError: no node can hold an actor.
    """
    made = place(config, nodes(), classes)
    if not fits(made, nodes()) and not autoscales():
        _wait(config.resources, made)
    return place(config, measured_nodes(config.resources), classes)


def _wait(resources: Resources, made: Placement) -> None:
    ends = time.monotonic() + resources.wait_s
    needed = (made.cpus_per_actor, made.gpus_per_actor)
    if resources.wait_s:
        say(f"waiting up to {clock(resources.wait_s)} for a node with {needed[0]:g} CPUs and {needed[1]:g} GPUs")
    asked = _ask_autoscaler(made) if resources.wait_s else False
    try:
        while not fits(made, nodes()):
            if time.monotonic() >= ends:
                raise does_not_fit(*needed, nodes())
            time.sleep(1)
    finally:
        if asked:
            request_resources(bundles=[])


def _ask_autoscaler(made: Placement) -> bool:
    """Asks for room for all actors: as long as none is placed, an autoscaler sees nothing that it could grow for."""
    shares = {"CPU": math.ceil(made.cpus_per_actor), "GPU": math.ceil(made.gpus_per_actor)}
    try:
        request_resources(bundles=[{name: share for name, share in shares.items() if share}] * made.actors)
    except Exception:  # a cluster without one, or one that is asked in another way: nodes may come all the same
        return False
    return True
