"""Trains the trajectories of ``pretrain`` one after another: a plain function that every worker runs. No Ray here."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

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
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.pretrain.store import Checkpoint, ExpertStore

TELL_EVERY_S = 1.0
"""Seconds between two progress events."""


class RefusedError(UserError):
    """A mistake that every worker comes to alike, and would come to again."""


@dataclass(frozen=True, kw_only=True)
class ExpertTask:
    """Everything that a worker must know; the images it reads from their shards."""

    config: RunConfig
    out: str
    cache: str
    """Folder of the class shards."""
    identity: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Worker:
    """This process among those that train together."""

    part: Part = field(default_factory=Part)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] | None = None
    """Averages gradients over the workers."""
    tell: Callable[[dict[str, Any]], None] = lambda event: None
    """Takes events, for a display; may lose some."""
    report: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Called on all workers after each checkpoint; waits for all of them."""


def train_trajectories(task: ExpertTask, worker: Worker) -> None:
    """Trains every trajectory that is not finished, from its checkpoint on.

    Raises:
        RefusedError: settings that the images do not allow, or a loss that is not finite.
        UserError: something of this worker alone, such as its compiler.
    """
    torch.set_num_threads(task.threads)
    pretrain = task.config.pretrain
    experts = ExpertStore(task.out, pretrain.architecture, task.identity)
    worker.tell({"event": "worker", "rank": worker.part.rank, "host": socket.gethostname(), "pid": os.getpid()})
    trainer = _trainer(task, worker, _agreed(experts.precision_under_way, worker.part) or pretrain.precision)
    for seed in range(pretrain.trajectories):
        if _agreed(lambda seed=seed: experts.finished(seed), worker.part) is None:
            _train(seed, trainer, experts, task, worker)


def _trainer(task: ExpertTask, worker: Worker, precision: str) -> WholeSetTrainer:
    cache, pretrain = PreparedDataset(task.cache, task.config.data), task.config.pretrain
    mean, std = cache.moments
    classes = [cache.train(entry["label"]) for entry in cache.classes]
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
        return False  # a CUDA graph's gradients would have to be copied out before they are averaged
    images_seen = pretrain.trajectories * pretrain.epochs * len(images) // worker.part.world
    work = 3 * images_seen * forward_flops(Encoder(name=pretrain.architecture), images.shape[0], images.shape[1])
    try:
        return compiles(pretrain.compile, work, worker.device, task.threads, key="pretrain.compile")[0]
    except ConfigError as error:  # of this machine: the others may have a compiler
        raise UserError(str(error)) from None


def _train(seed: int, trainer: WholeSetTrainer, experts: ExpertStore, task: ExpertTask, worker: Worker) -> None:
    pretrain, first = task.config.pretrain, worker.part.rank == 0
    held = _agreed(lambda: experts.load_checkpoint(seed), worker.part)
    if held is None:
        trainer.start(seed)
        entry = [experts.save_snapshot(seed, 0, weights_of(trainer.tensors()))] if first else []
        held = Checkpoint(seed=seed, epoch=0, tensors={}, losses=[], snapshots=entry)
    else:
        trainer.restore(seed, held.tensors)
    held = replace(held, precision=trainer.precision)
    _tell(worker, {"event": "begin", "seed": seed, "epoch": held.epoch, "steps": trainer.steps})
    while held.epoch < pretrain.epochs:
        loss = _epoch(trainer, held.epoch, _teller(worker, seed, held.epoch, trainer.steps))
        if not torch.isfinite(torch.tensor(loss)):
            raise RefusedError(
                f"pretrain: the loss of epoch {held.epoch + 1} (seed {seed}) is not finite; lower pretrain.learning_rate"
            )
        held = replace(held, epoch=held.epoch + 1, losses=[*held.losses, loss])
        _tell(worker, {"event": "epoch", "seed": seed, "epoch": held.epoch, "loss": loss})
        last = held.epoch == pretrain.epochs
        if first and (last or held.epoch % pretrain.snapshot_every == 0):
            entry = experts.save_snapshot(seed, held.epoch, weights_of(trainer.tensors()))
            held = replace(held, snapshots=[*held.snapshots, entry])
        if last or held.epoch % pretrain.report_every == 0:
            if first and last:
                experts.finish(held, compiled=trainer.compiled)
            elif first:
                experts.save_checkpoint(replace(held, tensors=trainer.tensors()))
            worker.report({"seed": seed, "epoch": held.epoch, "loss": loss})
    _tell(worker, {"event": "done", "seed": seed, "epoch": held.epoch})


def _epoch(trainer: WholeSetTrainer, epoch: int, after_step: Callable[[int], None] | None) -> float:
    try:
        return trainer.epoch(epoch, after_step)
    except Exception as error:
        if not trainer.compiled or not compiler.failed(error):
            raise
        raise UserError(f"the compiler failed ({compiler.reason(error)}); use pretrain.compile=off") from None


def _agreed(read: Callable[[], Any], part: Part) -> Any:
    """What the first worker reads, for all: a late write of a dead one must not let them begin apart."""
    value = [read() if part.rank == 0 else None]
    if part.world > 1:
        dist.broadcast_object_list(value, src=0)
    return value[0]


def _tell(worker: Worker, event: dict[str, Any]) -> None:
    if worker.part.rank == 0:
        worker.tell(event)


def _teller(worker: Worker, seed: int, epoch: int, steps: int) -> Callable[[int], None] | None:
    if worker.part.rank != 0:
        return None
    told = time.monotonic()

    def after(step: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            worker.tell({"event": "progress", "seed": seed, "epoch": epoch, "step": step, "steps": steps})

    return after
