"""Small trainings on four digits, by the plain function that every worker runs, without Ray."""

import socket
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from m3d.training.whole_set import Part
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.reader import ExpertsManifest
from pipeline.pretrain.store import ExpertStore, describe, identity_of, settings_of
from pipeline.pretrain.training import ExpertTask, Worker, train_trajectories
from tests.pipeline.support.runs import small_config

SMALL = (
    *("pretrain.architecture=convnet1", "pretrain.epochs=4", "pretrain.snapshot_every=3", "pretrain.batch=64"),
    *("pretrain.precision=float32", "pretrain.augment=crop"),
)


FOLDER = "experts/convnet1"


class Stopped(Exception):
    """Stands for the death of a worker."""


def config_of(*settings: str) -> RunConfig:
    """A run on four digits, with four epochs of a small network."""
    return small_config(*SMALL, *settings)


def task_of(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> ExpertTask:
    """The task of a worker."""
    identity = identity_of(settings_of(config, dataset))
    return ExpertTask(config=config, folder=folder, class_shards=dataset.folder, identity=identity, threads=1)


def trained(config: RunConfig, folder: RunFolder, dataset: PreparedDataset, **worker: Any) -> ExpertsManifest:
    """The manifest after a training in this process; ``worker`` are fields of Worker."""
    task = task_of(config, folder, dataset)
    train_trajectories(task, Worker(**worker))
    store = ExpertStore(folder, config.pretrain.architecture, task.identity)
    return store.publish(config.pretrain.trajectories, describe(config, dataset, settings_of(config, dataset)))


def snapshots(out: Path) -> dict[str, bytes]:
    """The snapshots of the first trajectory, by file name."""
    return {path.name: path.read_bytes() for path in sorted((out / FOLDER / "trajectory-00000").iterdir())}


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def one_of_two(rank: int, task: ExpertTask, port: int) -> None:
    """A worker of two, connected by gloo alone."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        train_trajectories(task, Worker(part=Part(rank=rank, world=2), wrap=DistributedDataParallel))
    finally:
        dist.destroy_process_group()
