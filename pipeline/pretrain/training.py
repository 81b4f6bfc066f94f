"""Trains the trajectories of ``pretrain`` one after another, in a plain function that every worker runs. No Ray here."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from m3d.backend import compiler
from m3d.backend.cost import forward_flops
from m3d.backend.execution import compiles
from m3d.config import ConfigError, Encoder
from m3d.training.row_images import RowImages
from m3d.training.snapshot import weights_of
from m3d.training.whole_set import Part, WholeSetTrainer
from pipeline.config.run_config import Pretrain, RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.events import EpochDone, Event, Progress, TrajectoryDone, TrajectoryStarted, WorkerStarted
from pipeline.pretrain.store import Checkpoint, ExpertStore

T = TypeVar("T")
PROGRESS_EVERY_S = 1.0
"""Seconds between two progress events."""


class RefusedError(UserError):
    """A mistake that every worker finds, and would find again after another start."""


@dataclass(frozen=True, kw_only=True)
class ExpertTask:
    """Everything that a worker needs besides the images, which it reads from the class shards."""

    config: RunConfig
    folder: RunFolder
    class_shards: str
    """Folder of the class shards."""
    identity: str
    """Checksum of everything that the weights depend on."""
    threads: int
    """Threads of torch in a worker."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """This process among those that train together, and how it reaches the others and the driver."""

    part: Part = field(default_factory=Part)
    """Rank of this worker and number of workers. Defaults to a single worker."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] | None = None
    """Wraps the network so that gradients are averaged over the workers. Defaults to no wrapper, for a single worker."""
    emit: Callable[[Event], None] = lambda event: None
    """Sends an event to the driver; some may be lost."""
    report: Callable[[EpochDone], None] = lambda done: None
    """Called on all workers after each checkpoint; waits for all of them."""


def train_trajectories(task: ExpertTask, worker: Worker) -> None:
    """Trains every trajectory that is not finished, from its checkpoint if there is one.

    Raises:
        RefusedError: the settings do not suit the images, or a loss is not finite.
        UserError: something is wrong on this worker alone, such as its compiler.
    """
    torch.set_num_threads(task.threads)
    pretrain = task.config.pretrain
    store = ExpertStore(task.folder, pretrain.architecture, task.identity)
    worker.emit(WorkerStarted(rank=worker.part.rank, host=socket.gethostname(), pid=os.getpid()))
    trainer = _trainer(task, worker, _agreed(store.checkpoint_precision, worker.part) or pretrain.precision)
    for seed in range(pretrain.trajectories):
        if _agreed(lambda seed=seed: store.finished(seed), worker.part) is None:
            _train(seed, trainer, store, pretrain, worker)


def _trainer(task: ExpertTask, worker: Worker, precision: str) -> WholeSetTrainer:
    dataset, pretrain = PreparedDataset(task.class_shards, task.config.data), task.config.pretrain
    mean, std = dataset.moments
    classes = [dataset.train(entry["label"]) for entry in dataset.classes]
    images = RowImages(classes, mean=mean, std=std, device=worker.device)
    compiled = _compiled(task, worker, images)
    try:
        return WholeSetTrainer(
            pretrain.architecture,
            images,
            config=pretrain.training,
            precision=precision,
            compiled=compiled,
            part=worker.part,
            parallel=worker.wrap,
        )
    except ConfigError as error:
        raise RefusedError(str(error.within("pretrain"))) from None


def _compiled(task: ExpertTask, worker: Worker, images: RowImages) -> bool:
    pretrain = task.config.pretrain
    if worker.device.type == "cuda" and pretrain.compile == "auto":
        return False  # gradients of a CUDA graph would have to be copied out before they are averaged
    images_seen = pretrain.trajectories * pretrain.epochs * len(images) // worker.part.world
    work = 3 * images_seen * forward_flops(Encoder(name=pretrain.architecture), images.shape[0], images.shape[1])
    try:
        return compiles(pretrain.compile, work, worker.device, task.threads, key="pretrain.compile")[0]
    except ConfigError as error:  # about this machine: the others may have a compiler
        raise UserError(str(error)) from None


def _train(seed: int, trainer: WholeSetTrainer, store: ExpertStore, pretrain: Pretrain, worker: Worker) -> None:
    first = worker.part.rank == 0
    checkpoint = _start(seed, trainer, store, worker)
    _emit(worker, TrajectoryStarted(seed=seed, epoch=checkpoint.epoch, steps=trainer.steps))
    while checkpoint.epoch < pretrain.epochs:
        loss = _epoch(trainer, checkpoint.epoch, _after_step(worker, seed, checkpoint.epoch, trainer.steps))
        if not torch.isfinite(torch.tensor(loss)):
            raise RefusedError(
                f"pretrain: the loss of epoch {checkpoint.epoch + 1} (seed {seed}) is not finite; lower pretrain.learning_rate"
            )
        done = EpochDone(seed=seed, epoch=checkpoint.epoch + 1, loss=loss)
        _emit(worker, done)
        checkpoint = replace(checkpoint, epoch=done.epoch, losses=[*checkpoint.losses, loss])
        last = done.epoch == pretrain.epochs
        if first and (last or done.epoch % pretrain.snapshot_every == 0):
            entry = store.save_snapshot(seed, done.epoch, weights_of(trainer.tensors()))
            checkpoint = replace(checkpoint, snapshots=[*checkpoint.snapshots, entry])
        if last or done.epoch % pretrain.report_every == 0:
            if first and last:
                store.finish(checkpoint, compiled=trainer.compiled)
            elif first:
                store.save_checkpoint(replace(checkpoint, tensors=trainer.tensors()))
            worker.report(done)
    _emit(worker, TrajectoryDone(seed=seed, epoch=checkpoint.epoch))


def _start(seed: int, trainer: WholeSetTrainer, store: ExpertStore, worker: Worker) -> Checkpoint:
    """Starts the trainer from the seed's checkpoint, or from new weights, and returns the state that it starts from."""
    checkpoint = _agreed(lambda: store.load_checkpoint(seed), worker.part)
    if checkpoint is not None:
        trainer.restore(seed, checkpoint.tensors)
    else:
        trainer.start(seed)
        first = worker.part.rank == 0
        entries = [store.save_snapshot(seed, 0, weights_of(trainer.tensors()))] if first else []
        checkpoint = Checkpoint(seed=seed, epoch=0, tensors={}, losses=[], snapshots=entries)
    return replace(checkpoint, precision=trainer.precision)


def _epoch(trainer: WholeSetTrainer, epoch: int, after_step: Callable[[int], None] | None) -> float:
    try:
        return trainer.epoch(epoch, after_step)
    except Exception as error:
        if not trainer.compiled or not compiler.failed(error):
            raise
        raise UserError(f"the compiler failed ({compiler.reason(error)}); use pretrain.compile=off") from None


def _agreed(read: Callable[[], T], part: Part) -> T:
    """Returns the value that the first worker reads, to all workers.

    Otherwise a late write by a dead worker could make them start from different epochs.
    """
    value = [read() if part.rank == 0 else None]
    if part.world > 1:
        dist.broadcast_object_list(value, src=0)
    return cast(T, value[0])


def _emit(worker: Worker, event: Event) -> None:
    if worker.part.rank == 0:
        worker.emit(event)


def _after_step(worker: Worker, seed: int, epoch: int, steps: int) -> Callable[[int], None] | None:
    """A function that the first worker calls after every step; it emits progress from time to time."""
    if worker.part.rank != 0:
        return None
    emitted = time.monotonic()

    def after(step: int) -> None:
        nonlocal emitted
        if time.monotonic() - emitted >= PROGRESS_EVERY_S:
            emitted = time.monotonic()
            worker.emit(Progress(seed=seed, epoch=epoch, step=step, steps=steps))

    return after
