"""The worker: a plain class that condenses one group after another, and the thin Ray actor over it."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch

from m3d import ClassImages, Condenser, CondenseState, NotFiniteError, iterate
from m3d.precision import resolve
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.ledger import Ledger, placed, snapshot
from pipeline.shard_writer import condensed_shard


@dataclass(frozen=True, kw_only=True)
class GroupTask:
    """Everything that a worker must know; the classes themselves it reads from their shards."""

    config: RunConfig
    out: str
    cache: str
    """Folder of the class shards."""
    groups: tuple[tuple[int, ...], ...]
    identity: str
    threads: int
    metadata: dict[str, Any]
    """Goes into every shard."""
    report_every_s: float = 1.0
    """Seconds between two progress events of a group."""


class GroupWorker:
    """Condenses groups of classes on one device, from their last checkpoint on."""

    def __init__(self, task: GroupTask, device: torch.device) -> None:
        self.task, self.device = task, device
        self.ledger = Ledger(task.out, task.identity)
        self._stop = threading.Event()
        self._saver = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")

    def stop(self) -> None:
        """Asks the group under way to save a checkpoint and end."""
        self._stop.set()

    def condense(self, group: int, precision: str) -> Iterator[dict[str, Any]]:
        """Condenses one group and stores its shard.

        Args:
            group: which of the task's groups.
            precision: resolved; the same for the whole run, whatever this device would choose.

        Yields:
            Every ``report_every_s`` ``{"event": "progress", iteration, losses, images}``, losses since the last
            one; in the end ``{"event": "done"}``, or ``{"event": "stopped"}`` where ``stop`` was called.

        Raises:
            UserError: a loss is not finite, or an image or a shard cannot be read or written.
        """
        torch.set_num_threads(self.task.threads)
        condenser, names = self._condenser(group, precision)
        saved = self.ledger.load_checkpoint(group)
        state = condenser.init() if saved is None else placed(saved, self.device)
        yield self._progress(state, [], 0)
        saving: Future[None] | None = None
        reported = checkpointed = time.monotonic()
        losses: list[tuple[int, list[float]]] = []
        images = 0
        try:
            for step in iterate(condenser, state):
                state, now = step.state, time.monotonic()
                images += len(condenser.real.ids) * (condenser.condense.batch_real + condenser.condense.views)
                if step.losses is not None:
                    losses.append((state.iteration, list(step.losses)))
                if now - checkpointed >= self.task.config.condense.checkpoint_every_s and (
                    saving is None or saving.done()
                ):
                    saving, checkpointed = self._save(group, state, saving), now
                if self._stop.is_set():
                    break
                if now - reported >= self.task.report_every_s:
                    yield self._progress(state, losses, images)
                    losses, images, reported = [], 0, now
        except NotFiniteError as error:
            label = names[0] if len(names) == 1 else ", ".join(names)
            raise UserError(f"group {group} ({label}): {error}") from None
        if state.iteration < condenser.condense.iterations:
            self._save(group, state, saving).result()
            yield {"event": "stopped", "iteration": state.iteration}
            return
        if saving is not None:
            saving.result()
        yield self._progress(state, losses, images)
        self._finish(group, condenser, state)
        yield {"event": "done", "iteration": state.iteration}

    def _condenser(self, group: int, precision: str) -> tuple[Condenser, list[str]]:
        config, labels = self.task.config, self.task.groups[group]
        cache = ClassCache(self.task.cache, config.data)
        mean, std = cache.moments
        real = ClassImages([cache.train(label) for label in labels], labels, seed=config.seed, device=self.device)
        condenser = Condenser(
            real,
            condense=replace(config.condense, precision=precision),
            kernel=config.kernel,
            augment=config.augment,
            encoder=config.encoder,
            mean=mean,
            std=std,
            class_count=len(cache.classes),
        )
        return condenser, [cache.classes[label]["name"] for label in labels]

    def _progress(self, state: CondenseState, losses: list[tuple[int, list[float]]], images: int) -> dict[str, Any]:
        return {"event": "progress", "iteration": state.iteration, "losses": losses, "images": images}

    def _save(self, group: int, state: CondenseState, earlier: "Future[None] | None") -> "Future[None]":
        if earlier is not None:
            earlier.result()  # raises what went wrong in it
        return self._saver.submit(self.ledger.save_checkpoint, group, snapshot(state))

    def _finish(self, group: int, condenser: Condenser, state: CondenseState) -> None:
        cache = ClassCache(self.task.cache, self.task.config.data)
        classes = [cache.classes[label] for label in self.task.groups[group]]
        images = condenser.result(state).images_KSCHW.numpy()
        shard = condensed_shard(images, classes, self.task.metadata)
        self.ledger.finish_group(group, shard, images.shape[0] * images.shape[1])


def device_of_actor() -> torch.device:
    """The GPU that Ray gave this process, if there really is one, otherwise the CPU."""
    # An actor without a GPU share sees every GPU of its node, and a logical GPU need not exist.
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda") if has_gpu else torch.device("cpu")


class CondenseActor:
    """What Ray places: a GroupWorker on the actor's device. Two threads, so that it can be told to stop."""

    def __init__(self, task: GroupTask) -> None:
        self._worker = GroupWorker(task, device_of_actor())

    def ready(self) -> dict[str, Any]:
        """Where the actor runs: node, process, device, precision."""
        device = self._worker.device
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "pid": os.getpid(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "precision": resolve(self._worker.task.config.condense.precision, device),
        }

    def stop(self) -> None:
        """Asks the group under way to save a checkpoint and end."""
        self._worker.stop()

    def condense(self, group: int, precision: str) -> Iterator[dict[str, Any]]:
        """Events of one group, as GroupWorker.condense yields them."""
        yield from self._worker.condense(group, precision)
