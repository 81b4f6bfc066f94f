"""How many workers train a network on the full training set, and which share of the cluster each of them takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.run_config import Pretrain
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.runtime import nodes as ray_nodes
from pipeline.runtime.placement import CPUS_PER_GPU, Node, capacity


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Number of workers, and the resources of each."""

    workers: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads of torch in a worker."""
        return max(1, int(self.cpus))


def shares_of(pretrain: Pretrain, nodes: Sequence[Node]) -> Shares:
    """Returns the shares that the settings give, or one worker per GPU, or without GPUs one per node.

    Without GPUs, a worker takes all CPUs that every node has: threads of one process share a batch better than several
    processes do.

    Raises:
        UserError: the workers do not fit on the nodes.
    """
    gpus = pretrain.gpus_per_worker
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    suitable = [node for node in nodes if (node.gpus >= 1 if gpus else node.cpus >= 1)]
    most = sum(int(node.gpus) for node in suitable) if gpus else len(suitable)
    workers = pretrain.workers or max(1, min(most, pretrain.batch))
    cpus = pretrain.cpus_per_worker
    if cpus is None:
        top = int(max((node.cpus for node in suitable), default=1))
        top = min(top, CPUS_PER_GPU) if gpus else top
        cpus = float(next((n for n in range(top, 0, -1) if capacity(n, gpus, suitable) >= workers), 1))
    if capacity(cpus, gpus, suitable) < workers and not ray_nodes.autoscales():
        raise UserError(
            f"pretrain.workers: {workers} workers of {cpus:g} CPUs and {gpus:g} GPUs do not fit on {len(nodes)} nodes with "
            f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs; lower pretrain.workers "
            "or pretrain.cpus_per_worker, or set pretrain.gpus_per_worker=0"
        )
    return Shares(workers=workers, cpus=cpus, gpus=gpus)


def steps_per_epoch(dataset: PreparedDataset, pretrain: Pretrain) -> int:
    """Returns the steps of one epoch; reads no image."""
    count = training_images(dataset)
    return count // min(count, pretrain.batch)


def training_images(dataset: PreparedDataset) -> int:
    """Returns the number of training images of all classes, without those held out for validation."""
    rows = [entry["train"]["rows"] for entry in dataset.classes]
    return sum(count - round(count * dataset.data.validation_fraction) for count in rows)
