"""The nodes of the cluster: what they have to offer, and waiting for one that can hold an actor."""

import math
import time
from collections.abc import Iterable
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.config.run_config import Resources, RunConfig
from pipeline.errors import FailedError
from pipeline.observability.progress import clock, say
from pipeline.runtime.placement import Node, Placement, does_not_fit, fits, place


def nodes() -> list[Node]:
    """The nodes that are alive."""
    return [_node(node) for node in _alive()]


def measured_nodes(resources: Resources) -> list[Node]:
    """The same, with the memory of their GPUs where actors will take GPUs and the nodes can tell."""
    alive = _alive()
    wanted = resources.gpus_per_actor != 0
    memory = of_nodes([one["NodeID"] for one in alive if wanted and one["Resources"].get("GPU")])
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


ANSWER_S = 60.0
"""Seconds that nodes have to answer; a worker starts there and imports torch."""
_KNOWN: dict[str, float] = {}
"""What nodes have answered. The number of a node never comes again."""


def of_nodes(ids: list[str]) -> dict[str, float]:
    """Bytes of the smallest GPU of each node, of those that have one and answer in time.

    A task on each node asks torch, as its actors will: what is hidden from them does not count, and a slice of a GPU
    counts as what it is. The tasks take no share of the node, and their processes end with them.

    Args:
        ids: of the nodes, as Ray names them.
    """
    unknown = [node for node in ids if node not in _KNOWN]
    if unknown:
        _KNOWN.update(_asked(unknown))
    return {node: memory for node in ids if (memory := _KNOWN.get(node))}


def _asked(ids: list[str]) -> dict[str, float]:
    task = ray.remote(num_cpus=0, num_gpus=0, max_calls=1, max_retries=0)(_smallest)
    asked = {
        task.options(
            name="memory of the GPUs",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(): node
        for node in ids
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    for reference in silent:
        ray.cancel(reference, force=True)
    found = {}
    for reference in answered:
        try:
            found[asked[reference]] = float(ray.get(reference))
        except RayError:  # the node is gone, or its driver does not work: the assumption holds for it
            continue
    return found


def _smallest() -> float:
    """Bytes of the smallest GPU that this process sees; 0 where it sees none."""
    import torch

    if not torch.cuda.is_available():  # logical GPUs
        return 0.0
    return min(torch.cuda.get_device_properties(one).total_memory for one in range(torch.cuda.device_count()))
