"""How many workers train a network on the whole set, and what each of them takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.run_config import Pretrain
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.runtime import nodes as ray_nodes
from pipeline.runtime.placement import CPUS_PER_GPU, Node, capacity


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Workers and what each takes."""

    workers: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Of torch in a worker."""
        return max(1, int(self.cpus))


def shares_of(pretrain: Pretrain, nodes: Sequence[Node]) -> Shares:
    """Settings where they are given; otherwise a worker per GPU, or one per node with all the CPUs that all nodes have.

    Threads of one process share a batch better than processes do, so a node without GPUs gets one worker.

    Raises:
        UserError: so many workers do not fit.
    """
    gpus = pretrain.gpus_per_worker
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    able = [node for node in nodes if (node.gpus >= 1 if gpus else node.cpus >= 1)]
    most = sum(int(node.gpus) for node in able) if gpus else len(able)
    workers = pretrain.workers or max(1, min(most, pretrain.batch))
    cpus = pretrain.cpus_per_worker
    if cpus is None:
        top = int(max((node.cpus for node in able), default=1))
        top = min(top, CPUS_PER_GPU) if gpus else top
        cpus = float(next((n for n in range(top, 0, -1) if capacity(n, gpus, able) >= workers), 1))
    if capacity(cpus, gpus, able) < workers and not ray_nodes.autoscales():
        raise UserError(
            f"pretrain.workers: {workers} workers of {cpus:g} CPUs and {gpus:g} GPUs do not fit on {len(nodes)} nodes with "
            f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs; lower pretrain.workers "
            "or pretrain.cpus_per_worker, or set pretrain.gpus_per_worker=0"
        )
    return Shares(workers=workers, cpus=cpus, gpus=gpus)


def steps_per_epoch(cache: PreparedDataset, pretrain: Pretrain) -> int:
    """Steps of one epoch, from the manifest alone."""
    count = training_images(cache)
    return count // min(count, pretrain.batch)


def training_images(cache: PreparedDataset) -> int:
    """Training images of all classes, less those that are held out."""
    rows = [entry["train"]["rows"] for entry in cache.classes]
    return sum(count - round(count * cache.data.validation_fraction) for count in rows)
