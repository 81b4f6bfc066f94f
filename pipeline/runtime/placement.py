"""Placement, decided without Ray: which classes go together, what an actor takes, and whether the cluster can hold it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from pipeline.config.run_config import Resources, RunConfig
from pipeline.errors import UserError
from pipeline.formats.run_record import StoredPlacement

CPUS_PER_GPU = 4
"""CPUs that an actor with a GPU takes if the node has them. The CPUs copy and count, the GPU computes."""
ACTIVATION_BYTES = 24
"""Bytes per pixel and channel of a view that the backward pass needs: about six float32 maps at full resolution."""
GPU_MEMORY = 16e9
"""Bytes that a GPU is assumed to have if its node does not report them: it is logical only, or has not joined yet."""
MEMORY_SHARE = 0.5
"""Share of an actor's memory that activations may take."""
NO_BOUND = 2**31
"""Number of classes that no run exceeds."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """CPUs, GPUs and memory that a live node declares."""

    cpus: float
    gpus: float
    memory: float
    """Bytes."""
    gpu_memory: float = 0.0
    """Bytes of its smallest GPU; 0 if unknown."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Groups of a run, and CPUs and GPUs per actor. Stored in config.json, because rounding depends on the groups."""

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int
    """Torch's CPU threads in an actor."""
    groups: tuple[tuple[int, ...], ...]
    """Labels of the classes that are condensed together."""

    def stored(self) -> StoredPlacement:
        """The entry of config.json."""
        return StoredPlacement(
            groups=[list(group) for group in self.groups],
            threads=self.threads,
            cpus_per_actor=self.cpus_per_actor,
            gpus_per_actor=self.gpus_per_actor,
            actors=self.actors,
        )


def place(config: RunConfig, nodes: Sequence[Node], classes: int) -> Placement:
    """Places a run by its settings. Defaults to one actor per GPU, or one per CPU but never more than classes.

    Args:
        config: of the run.
        nodes: live nodes of the cluster.
        classes: number of classes of the run.
    """
    wanted = config.resources
    # A head without CPUs holds no actor. If there is nothing else, the placement fits nowhere.
    nodes = [node for node in nodes if node.cpus or node.gpus] or [Node(cpus=1, gpus=0, memory=0)]
    gpus = wanted.gpus_per_actor if wanted.gpus_per_actor is not None else float(any(node.gpus >= 1 for node in nodes))
    slots = sum(int((node.gpus + 1e-6) / gpus) for node in nodes) if gpus else int(sum(node.cpus for node in nodes))
    groups_wanted = -(-classes // wanted.classes_per_group) if wanted.classes_per_group else classes
    actors = wanted.actors or max(1, min(slots, groups_wanted))
    cpus = wanted.cpus_per_actor if wanted.cpus_per_actor is not None else _cpus(nodes, actors, gpus)
    fitting = [fitting_classes(config, memory) for memory in _memories(nodes, actors, cpus, gpus)]
    groups = _groups(classes, wanted.classes_per_group, fitting)
    return Placement(
        actors=min(actors, len(groups)),
        cpus_per_actor=cpus,
        gpus_per_actor=gpus,
        threads=max(1, int(cpus)),
        groups=groups,
    )


def stored_placement(stored: StoredPlacement, wanted: Placement, resources: Resources) -> Placement:
    """The groups and threads of a resumed run, on the actors that the cluster can hold now.

    Args:
        stored: entry of the run's config.json.
        wanted: placement of a new run on the cluster.
        resources: settings that this call was given.
    """
    groups = tuple(tuple(group) for group in stored["groups"])
    # A run that began on GPUs resumes on GPUs: another device means other bytes.
    gpus = stored["gpus_per_actor"] if resources.gpus_per_actor is None else wanted.gpus_per_actor
    return Placement(
        actors=min(resources.actors or wanted.actors, len(groups)),
        cpus_per_actor=wanted.cpus_per_actor if gpus == wanted.gpus_per_actor else stored["cpus_per_actor"],
        gpus_per_actor=gpus,
        threads=stored["threads"],
        groups=groups,
    )


def fits(placement: Placement, nodes: Sequence[Node]) -> bool:
    """Whether some node can hold one actor when it is idle."""
    return capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes) > 0


def capacity(cpus: float, gpus: float, nodes: Sequence[Node]) -> int:
    """Number of actors or tasks that the nodes can hold together when they are idle; each needs one node.

    Args:
        cpus, gpus: of one actor.
        nodes: of the cluster.
    """

    def on(node: Node) -> int:
        shares = ((node.cpus, cpus), (node.gpus, gpus))
        return min((int((available + 1e-6) / needed) for available, needed in shares if needed), default=0)

    return sum(on(node) for node in nodes)


def does_not_fit(cpus: float, gpus: float, nodes: Sequence[Node]) -> UserError:
    """The error for an actor or a task that no node can hold."""
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
    return UserError(
        f"an actor needs {cpus:g} CPUs and {gpus:g} GPUs, but no node has them "
        f"(the largest of {len(nodes)}: {largest.cpus:g} CPUs, {largest.gpus:g} GPUs); lower resources.cpus_per_actor or "
        "resources.gpus_per_actor, add such a node, or wait for one with resources.wait_s"
    )


def fitting_classes(config: RunConfig, memory: float) -> int:
    """Number of classes whose activations fit into an actor's memory; at least 1.

    Args:
        config: of the run.
        memory: bytes; 0 if unknown, which sets no bound.
    """
    if not memory:
        return NO_BOUND
    side, width = config.data.image_size, config.encoder.width
    per_class = config.condense.views * side**2 * width * ACTIVATION_BYTES
    return max(1, int(memory * MEMORY_SHARE / per_class))


def smallest_gpu(nodes: Sequence[Node]) -> float:
    """Bytes of the smallest GPU whose memory is known; 0 if none is."""
    return min((node.gpu_memory for node in nodes if node.gpu_memory), default=0.0)


def _groups(classes: int, size: int | None, fitting: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of consecutive labels: of the size asked for, or spread evenly in as many rounds as memory demands.

    Args:
        classes: number of classes of the run.
        size: of a group, as asked for, or None.
        fitting: for each actor, the number of classes that fit into its memory.
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
    """Sizes of groups that are as even as the places allow. The largest is as small as possible; empty ones are dropped.

    Args:
        classes: to spread.
        places: for each group, the most classes that it may have; the largest first.
    """
    # The level is found by bisection: levels and places both grow with the classes.
    levels = range(1, classes + 1)
    level = levels[bisect_left(levels, classes, key=lambda level: sum(min(level, limit) for limit in places))]
    sizes = [min(level, limit) for limit in places]
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
    """Bytes that each actor may count on: of its GPU, or without GPUs its share of the node with the least memory."""
    if gpus:
        # With more GPUs than actors, the smallest are assumed: which ones Ray takes is not known.
        memories = [node.gpu_memory or GPU_MEMORY for node in nodes for _ in range(capacity(cpus, gpus, [node]))]
        smallest = sorted(memories)[:actors] or [GPU_MEMORY]
        return [memory * min(1.0, gpus) for memory in smallest + smallest[:1] * (actors - len(smallest))]
    shares = []
    for node in nodes:
        on_node = min(actors, capacity(cpus, gpus, [node]))
        if on_node and node.memory:
            shares.append(node.memory / on_node)
    return [min(shares, default=0.0)] * actors
