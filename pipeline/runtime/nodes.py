"""The nodes of the cluster: their CPUs, GPUs and memory, and waiting for one that can hold an actor."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.config.run_config import Resources, RunConfig
from pipeline.errors import FailedError
from pipeline.observability.progress import clock, say
from pipeline.runtime.placement import Node, Placement, does_not_fit, fits, place

ANSWER_S = 60.0
"""Seconds that nodes have to report the memory of their GPUs. A worker starts there and imports torch."""
REPORTED: dict[str, float] = {}
"""Bytes of the smallest GPU of the nodes that have reported it, by Ray's id of the node, which is never reused."""


def nodes() -> list[Node]:
    """The live nodes. Raises FailedError if there are none."""
    return [_node(node) for node in _alive()]


def measured_nodes(resources: Resources) -> list[Node]:
    """The live nodes, with the memory of their GPUs if actors take GPUs and the nodes report it."""
    alive = _alive()
    takes_gpus = resources.gpus_per_actor != 0
    memory = gpu_memory([node["NodeID"] for node in alive if takes_gpus and node["Resources"].get("GPU")])
    return [_node(node, memory.get(node["NodeID"], 0.0)) for node in alive]


def _alive() -> list[Mapping[str, Any]]:
    alive = [node for node in ray.nodes() if node["Alive"]]
    if not alive:
        raise FailedError("the Ray cluster has no living node; start one and run the same command again")
    return alive


def _node(entry: Mapping[str, Any], gpu_memory: float = 0.0) -> Node:
    declared = entry["Resources"]
    return Node(
        cpus=declared.get("CPU", 0),
        gpus=declared.get("GPU", 0),
        memory=declared.get("memory", 0),
        gpu_memory=gpu_memory,
    )


def free(resource: str) -> tuple[float, float]:
    """How much of a resource (CPU, GPU) is free in the cluster, and how much it has; zeros if that cannot be read now."""
    try:
        return ray.available_resources().get(resource, 0.0), ray.cluster_resources().get(resource, 0.0)
    except (RayError, RuntimeError):
        return 0.0, 0.0


def shortage(cpus: float, gpus: float) -> str:
    """What processes of that size wait for, and how much of it is free: "1 GPU each; the cluster has 0 of 4 GPUs free"."""
    needed = [(name, share) for name, share in (("CPU", cpus), ("GPU", gpus)) if share]
    each = " and ".join(f"{share:g} {name}{'s' if share > 1 else ''}" for name, share in needed)
    cluster = [(name, *free(name)) for name, _ in needed]
    unused = " and ".join(f"{some:g} of {total:g} {name}s" for name, some, total in cluster)
    return f"{each} each; the cluster has {unused} free"


def gpu_memory(ids: list[str]) -> dict[str, float]:
    """Bytes of the smallest GPU of each node; nodes without a GPU, and those that do not answer in time, are missing.

    A task on each node asks torch, as its actors will. Hidden GPUs do not count, and a slice of a GPU counts with its
    own memory. The tasks take no resources of the node, and their processes end with them.

    Args:
        ids: Ray's ids of the nodes.
    """
    unknown = [node for node in ids if node not in REPORTED]
    if unknown:
        REPORTED.update(_ask(unknown))
    return {node: memory for node in ids if (memory := REPORTED.get(node))}


def _ask(ids: list[str]) -> dict[str, float]:
    task = ray.remote(num_cpus=0, num_gpus=0, max_calls=1, max_retries=0)(smallest_local_gpu)
    asked = {
        task.options(
            name="memory of the GPUs",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(): node
        for node in ids
    }
    # Those that are silent are left alone: cancelling a task by force can abort the driver.
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    reported = {}
    for reference in answered:
        try:
            reported[asked[reference]] = float(ray.get(reference))
        except RayError:  # the node is gone or its GPU driver is broken: placement assumes a size
            continue
    return reported


def smallest_local_gpu() -> float:
    """Bytes of the smallest GPU that this process sees; 0 if it sees none."""
    import torch

    if not torch.cuda.is_available():  # logical GPUs
        return 0.0
    return min(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))


def starting(actors: Iterable[Any]) -> int:
    """How many of the actors have their place on a node and are only starting, which takes longer on a busy node."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    try:
        entries = [state.actor_table(actor._actor_id.hex()) or {} for actor in actors]
    except Exception:  # a private call: a change in Ray must not stop a run
        return 0
    return sum(entry.get("State") == "PENDING_CREATION" and bool(entry.get("Pid")) for entry in entries)


def autoscales() -> bool:
    """Whether an autoscaler may add nodes, so that waiting for one makes sense."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    try:
        config = state.get_cluster_config()
    except Exception:  # a private call: a change in Ray must not stop a run
        return False
    return bool(config is not None and getattr(config, "node_group_configs", None))


def placement(config: RunConfig, classes: int) -> Placement:
    """Places a run on the cluster as it is now.

    Waits up to ``resources.wait_s`` seconds for a node that can hold an actor, and asks an autoscaler for one.

    Args:
        config: of the run.
        classes: number of its classes.

    Raises:
        UserError: no node can hold an actor.
    """
    wanted = place(config, nodes(), classes)
    if not fits(wanted, nodes()) and not autoscales():
        _wait(config.resources, wanted)
    return place(config, measured_nodes(config.resources), classes)


def _wait(resources: Resources, wanted: Placement) -> None:
    ends = time.monotonic() + resources.wait_s
    needed = (wanted.cpus_per_actor, wanted.gpus_per_actor)
    if resources.wait_s:
        say(f"waiting up to {clock(resources.wait_s)} for a node with {needed[0]:g} CPUs and {needed[1]:g} GPUs")
    asked = _ask_autoscaler(wanted) if resources.wait_s else False
    try:
        while not fits(wanted, nodes()):
            if time.monotonic() >= ends:
                raise does_not_fit(*needed, nodes())
            time.sleep(1)
    finally:
        if asked:
            request_resources(bundles=[])


def _ask_autoscaler(wanted: Placement) -> bool:
    """Requests resources for all actors, and returns whether that worked.

    Until an actor is placed, an autoscaler sees no demand that it could grow for.
    """
    shares = {"CPU": math.ceil(wanted.cpus_per_actor), "GPU": math.ceil(wanted.gpus_per_actor)}
    try:
        request_resources(bundles=[{name: share for name, share in shares.items() if share}] * wanted.actors)
    except Exception:  # a cluster without an autoscaler, or with one that is asked in another way: nodes may still come
        return False
    return True
