"""Pure decisions: which classes go together, what an actor takes, and whether the cluster can hold it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from pipeline.config.run_config import Resources, RunConfig
from pipeline.errors import UserError

CPUS_PER_GPU = 4
"""CPUs that an actor with a GPU takes where the node has them: it copies and counts, the GPU computes."""
ACTIVATION_BYTES = 24
"""Kept per pixel and channel of a view for the backward pass: about six float32 maps at full resolution."""
GPU_MEMORY = 16e9
"""Bytes that a GPU is taken to have where its node does not tell: it is logical only, or not there yet."""
MEMORY_SHARE = 0.5
"""Part of an actor's memory that activations may take."""
NO_BOUND = 2**31
"""Classes: more than any run has."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """CPUs, GPUs and memory that one living node declares."""

    cpus: float
    gpus: float
    memory: float
    """Bytes."""
    gpu_memory: float = 0.0
    """Bytes of its smallest GPU; 0 where that is not known."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What was decided for a run. It is stored in config.json and reused, since groups decide the rounding."""

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int
    """Of torch in an actor without a GPU."""
    groups: tuple[tuple[int, ...], ...]
    """Labels of the classes that are condensed together."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "groups": [list(group) for group in self.groups]}


def place(config: RunConfig, nodes: Sequence[Node], classes: int) -> Placement:
    """Settings where they are given, otherwise one actor per GPU, or one per CPU up to the number of classes.

    Args:
        config: the run.
        nodes: of the cluster, those that are alive.
        classes: of the run.
    """
    wanted = config.resources
    # A head without CPUs holds no actor; where there is nothing else, the placement fits nowhere and says so.
    nodes = [node for node in nodes if node.cpus or node.gpus] or [Node(cpus=1, gpus=0, memory=0)]
    gpus = wanted.gpus_per_actor if wanted.gpus_per_actor is not None else float(any(node.gpus >= 1 for node in nodes))
    slots = sum(int((node.gpus + 1e-6) / gpus) for node in nodes) if gpus else int(sum(node.cpus for node in nodes))
    groups_wanted = -(-classes // wanted.classes_per_group) if wanted.classes_per_group else classes
    actors = wanted.actors or max(1, min(slots, groups_wanted))
    cpus = wanted.cpus_per_actor if wanted.cpus_per_actor is not None else _cpus(nodes, actors, gpus)
    fitting = [room(config, memory) for memory in _memories(nodes, actors, cpus, gpus)]
    groups = _groups(classes, wanted.classes_per_group, fitting)
    return Placement(
        actors=min(actors, len(groups)),
        cpus_per_actor=cpus,
        gpus_per_actor=gpus,
        threads=max(1, int(cpus)),
        groups=groups,
    )


def stored_placement(stored: Mapping[str, Any], wanted: Placement, resources: Resources) -> Placement:
    """The groups and threads of a run that goes on, on the actors that the cluster holds now."""
    groups = tuple(tuple(group) for group in stored["groups"])
    # A run that began on GPUs goes on on GPUs: another device means other bytes.
    gpus = stored["gpus_per_actor"] if resources.gpus_per_actor is None else wanted.gpus_per_actor
    return Placement(
        actors=min(resources.actors or wanted.actors, len(groups)),
        cpus_per_actor=wanted.cpus_per_actor if gpus == wanted.gpus_per_actor else stored["cpus_per_actor"],
        gpus_per_actor=gpus,
        threads=stored["threads"],
        groups=groups,
    )


def fits(placement: Placement, nodes: Sequence[Node]) -> bool:
    """Whether some node can hold one actor, when it is idle."""
    return capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes) > 0


def capacity(cpus: float, gpus: float, nodes: Sequence[Node]) -> int:
    """Actors (or tasks) of so many CPUs and GPUs that the nodes can hold together, each on one node."""

    def on(node: Node) -> int:
        shares = ((node.cpus, cpus), (node.gpus, gpus))
        return min((int((held + 1e-6) / needed) for held, needed in shares if needed), default=0)

    return sum(on(node) for node in nodes)


def does_not_fit(cpus: float, gpus: float, nodes: Sequence[Node]) -> UserError:
    """The sentence for an actor (or a task) that no node can hold."""
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
    return UserError(
        f"an actor needs {cpus:g} CPUs and {gpus:g} GPUs, but no node has them "
        f"(the largest of {len(nodes)}: {largest.cpus:g} CPUs, {largest.gpus:g} GPUs); lower resources.cpus_per_actor or "
        "resources.gpus_per_actor, add such a node, or wait for one with resources.wait_s"
    )


def room(config: RunConfig, memory: float) -> int:
    """Classes whose activations fit into an actor's memory (bytes); no bound where the memory is not known."""
    if not memory:
        return NO_BOUND
    side, width = config.data.image_size, config.encoder.width
    per_class = config.condense.views * side**2 * width * ACTIVATION_BYTES
    return max(1, int(memory * MEMORY_SHARE / per_class))


def smallest_gpu(nodes: Sequence[Node]) -> float:
    """Bytes of the smallest GPU that is known, or 0."""
    return min((node.gpu_memory for node in nodes if node.gpu_memory), default=0.0)


def _groups(classes: int, size: int | None, fitting: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Consecutive labels: of the size asked for, else spread evenly, in as many rounds as memory demands.

    Args:
        classes: of the run.
        size: asked for, or None.
        fitting: classes that each actor has room for.
    """
    if size is not None:
        edges = [*range(0, classes, size), classes]
    elif len(set(fitting)) == 1:
        rounds = -(-classes // (len(fitting) * fitting[0]))
        count = min(classes, len(fitting) * rounds)
        edges = [classes * i // count for i in range(count + 1)]
    else:
        edges = [0, *accumulate(_levelled(classes, sorted(fitting, reverse=True) * -(-classes // sum(fitting))))]
    return tuple(tuple(range(start, end)) for start, end in pairwise(edges))


def _levelled(classes: int, places: Sequence[int]) -> list[int]:
    """As even as the places allow: the largest size of a group is as small as can be. Places left empty are dropped."""
    level = next(level for level in range(1, classes + 1) if sum(min(level, held) for held in places) >= classes)
    sizes = [min(level, held) for held in places]
    over = sum(sizes) - classes
    for place in range(len(sizes) - 1, -1, -1):
        if over and sizes[place] == level:
            sizes[place] -= 1
            over -= 1
    return [size for size in sizes if size]


def _cpus(nodes: Sequence[Node], actors: int, gpus: float) -> float:
    if gpus:
        per_gpu = min((node.cpus / node.gpus for node in nodes if node.gpus >= gpus), default=1.0)
        return max(1.0, float(int(min(CPUS_PER_GPU, per_gpu) * gpus))) if per_gpu * gpus >= 1 else per_gpu * gpus
    # No actor spans nodes, so the largest node bounds what one may ask for.
    largest = max((node.cpus for node in nodes), default=1.0)
    share = int(sum(node.cpus for node in nodes) / actors)
    return float(max(1, min(share, int(largest)))) if largest >= 1 else largest


def _memories(nodes: Sequence[Node], actors: int, cpus: float, gpus: float) -> list[float]:
    """Bytes that each actor may count on: its GPU's, or of CPUs for all a share of the smallest node that holds one."""
    if gpus:
        # Nobody knows which of more GPUs than actors will be taken: the smallest are counted on.
        held = [node.gpu_memory or GPU_MEMORY for node in nodes for _ in range(capacity(cpus, gpus, [node]))]
        held = sorted(held)[:actors] or [GPU_MEMORY]
        return [memory * min(1.0, gpus) for memory in held + held[:1] * (actors - len(held))]
    shares = []
    for node in nodes:
        held = min(actors, capacity(cpus, gpus, [node]))
        if held and node.memory:
            shares.append(node.memory / held)
    return [min(shares, default=0.0)] * actors
