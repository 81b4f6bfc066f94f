"""How much memory the GPUs of other nodes have: asked of the nodes themselves, since Ray does not tell."""

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
