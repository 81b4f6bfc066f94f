"""The worker: a plain class that condenses one group after another. No Ray here."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from m3d import (
    ClassImages,
    Condenser,
    CondenseState,
    ImageParts,
    NotFiniteError,
    RealImages,
    StreamedImages,
    iterate,
)
from m3d.backend import compiler
from m3d.backend.execution import Execution, choose
from m3d.config import ConfigError
from m3d.passes import forget_passes
from pipeline import storage
from pipeline.condense.group_store import Checkpoints, GroupStore
from pipeline.condense.memory_tier import GIB, Room, choose_room, host_memory
from pipeline.condense.task import GroupTask
from pipeline.data.disk_cache import folder_of, room_for_copies
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import DeviceError, UserError, first_line, listed
from pipeline.formats.condense_checkpoint import placed
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.storage import s3


class GroupWorker:
    """Condenses groups of classes on one device, from their last checkpoint on."""

    def __init__(self, task: GroupTask, device: torch.device) -> None:
        self.task, self.device = task, device
        self.ledger = GroupStore(task.folder, task.identity)
        self._stop = threading.Event()
        self._room: Room | None = None
        self._told_retries = s3.retries()

    def stop(self) -> None:
        """Asks the group under way to save a checkpoint and end."""
        self._stop.set()

    def memory(self) -> float:
        """Bytes of the GPU that this worker may use; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0.0
        return torch.cuda.get_device_properties(self.device).total_memory * self.task.gpu_share

    def execution(self) -> Execution:
        """How the step is computed on this device: what the run has decided before, else what suits it.

        Raises:
            UserError: the run is compiled, and this machine cannot compile.
        """
        task = self.task
        try:
            if task.execution is not None:
                lacking = compiler.missing(self.device) if task.execution.compiled else None
                if lacking:
                    raise UserError(
                        f"this run began compiled, but this machine has no {lacking}: install it here, or begin anew with "
                        "condense.compile=off and another --out"
                    )
                return task.execution
            channels, height, width = PreparedDataset(task.class_shards, task.config.data).manifest["shape"]
            return choose(
                task.config.method,
                shape=(channels, height, width),
                classes=task.share,
                device=self.device,
                threads=task.threads,
                memory=min(held, task.gpu_memory * task.gpu_share or held) if (held := self.memory()) else None,
            )
        except ConfigError as error:
            raise UserError(str(error)) from None

    def room(self) -> Room:
        """Where the real images of the largest group are held on this machine."""
        if self._room is None:
            task, cache = self.task, PreparedDataset(self.task.class_shards, self.task.config.data)
            gpu = self.device.type == "cuda"
            self._room = choose_room(
                max(cache.train_bytes(group) for group in task.groups),
                host=int(host_memory() / task.neighbours),
                device=int(torch.cuda.mem_get_info(self.device)[0] * task.gpu_share) if gpu else None,
                wish=task.config.resources.hold,
            )
            if self._room.place == "mapped" and not storage.is_local(task.class_shards):
                self._require_disk(self._room)
        return self._room

    def _require_disk(self, room: Room) -> None:
        """Raises UserError where the local copies of what is to be mapped have no place on this node."""
        data, actors = self.task.config.data, self.task.neighbours
        held = room_for_copies(data)
        if room.needed * actors > held:
            raise UserError(
                f"real images: {room.needed / GIB:.2f} GiB in the largest group, more than memory holds, and {actors} actors a node have "
                f"{held / GIB:.2f} GiB for copies in {folder_of(data)}; lower resources.classes_per_group, raise data.disk_cache_gib, "
                "or choose another data.disk_cache"
            )

    def condense(self, group: int, execution: Execution) -> Iterator[dict[str, Any]]:
        """Condenses one group and stores its shard.

        Args:
            group: which of the task's groups.
            execution: the same for the whole run, whatever this device would choose.

        Yields:
            Every ``report_every_s`` ``{"event": "progress", iteration, losses}``, the losses since the last one
            as (iteration, per class, images per second); in the end ``{"event": "done"}``, or ``{"event": "stopped"}`` where ``stop`` was called. Where the memory runs out or
            the compiler fails, ``{"event": "execution", execution, why}``: how it goes on, and all groups after it.

        Raises:
            UserError: a loss is not finite, or an image or a shard cannot be read or written.
        """
        torch.set_num_threads(self.task.threads)
        while True:
            try:
                yield from self._condense(group, execution)
                return
            except Exception as error:
                execution = self._instead(execution, error)
            yield {"event": "execution", "execution": execution.as_dict(), "why": execution.note}

    def _instead(self, execution: Execution, error: Exception) -> Execution:
        """How to go on after an error, with a note that says why; raises where there is no other way."""
        if isinstance(error, torch.OutOfMemoryError):
            forget_passes()  # with what was compiled and recorded for the larger blocks
            torch.compiler.reset()
            try:
                halved = execution.halved()
            except ConfigError as nothing_left:
                raise UserError(str(nothing_left)) from None
            note = f"out of memory: goes on with {halved.real_block} real images and {halved.synthetic_block} views at once"
            return replace(halved, note=note)
        if execution.compiled and compiler.failed(error) and self.task.config.condense.compile == "auto":
            return replace(
                execution, compiled=False, note=f"goes on without the compiler, which failed: {compiler.reason(error)}"
            )
        if execution.compiled and compiler.failed(error):
            raise UserError(f"the compiler failed ({compiler.reason(error)}); use condense.compile=off") from error
        if isinstance(error, MemoryError | RuntimeError) and _of_the_device(error):
            raise DeviceError(f"{type(error).__name__}: {first_line(error)}") from None
        raise error

    def _condense(self, group: int, execution: Execution) -> Iterator[dict[str, Any]]:
        condenser, names = self._condenser(group, execution)
        state = self._resumed(group, condenser)
        yield self._progress(state, [])
        if execution.compiled and state.iteration < condenser.condense.iterations:
            began = time.monotonic()
            with compiler.alone():
                condenser.warm_up(state)
            yield {"event": "compiled", "seconds": round(time.monotonic() - began, 1)}
        checkpoints = Checkpoints(self.ledger, group, self.task.config.resources, state.iteration)
        reported = logged = time.monotonic()
        logged_at = state.iteration
        per_iteration = len(condenser.real.ids) * (condenser.condense.batch_real + condenser.condense.views)
        losses: list[tuple[int, list[float], float]] = []
        try:
            for step in iterate(condenser, state):
                state = step.state
                if step.losses is not None:
                    now = time.monotonic()
                    rate = (state.iteration - logged_at) * per_iteration / max(1e-9, now - logged)
                    losses.append((state.iteration, list(step.losses), round(rate, 1)))
                    logged, logged_at = now, state.iteration
                if self._stop.is_set():
                    break
                checkpoints.after(state)
                if time.monotonic() - reported >= self.task.report_every_s:
                    age = round(time.monotonic() - checkpoints.saved_s, 1)
                    yield {**self._progress(state, losses), "checkpoint_age_s": age}
                    losses, reported = [], time.monotonic()
        except NotFiniteError as error:
            raise UserError(f"group {group} ({listed(names)}): {error}") from None
        if state.iteration < condenser.condense.iterations:
            checkpoints.save(state)
            checkpoints.settle()
            yield {"event": "stopped", "iteration": state.iteration, **self._retries()}
            return
        checkpoints.settle()
        yield self._progress(state, losses)
        self._finish(group, condenser, state)
        yield {"event": "done", "iteration": state.iteration, **self._retries()}

    def _resumed(self, group: int, condenser: Condenser) -> CondenseState:
        """The state of the group's checkpoint, or the beginning where there is none that fits."""
        saved, start = self.ledger.load_checkpoint(group), condenser.init()
        if (
            saved is None
            or saved.pixels_KSCHW.shape != start.pixels_KSCHW.shape
            or saved.iteration > condenser.condense.iterations
        ):
            return start
        return placed(saved, self.device)

    def _condenser(self, group: int, execution: Execution) -> tuple[Condenser, list[str]]:
        config, labels = self.task.config, self.task.groups[group]
        cache = PreparedDataset(self.task.class_shards, config.data)
        mean, std = cache.moments
        real = self._real(cache, labels)
        condenser = Condenser(
            real,
            config.method,
            mean=mean,
            std=std,
            class_count=len(cache.classes),
            execution=execution,
        )
        return condenser, [cache.classes[label]["name"] for label in labels]

    def _real(self, cache: PreparedDataset, labels: tuple[int, ...]) -> RealImages:
        place, seed = self.room().place, self.task.config.seed
        if place == "device":
            return ClassImages([cache.train_parts(label) for label in labels], labels, seed=seed, device=self.device)
        held = [
            cache.train_parts(label, must_map=True) if place == "mapped" else ImageParts([cache.train(label).clone()])
            for label in labels
        ]
        return StreamedImages(held, labels, seed=seed, device=self.device)

    def _retries(self) -> dict[str, int]:
        """Requests to the storage that were sent again since the last call, where there were any."""
        now = s3.retries()
        told, self._told_retries = now - self._told_retries, now
        return {"retries": told} if told else {}

    def _progress(self, state: CondenseState, losses: list[tuple[int, list[float], float]]) -> dict[str, Any]:
        return {"event": "progress", "iteration": state.iteration, "losses": losses}

    def _finish(self, group: int, condenser: Condenser, state: CondenseState) -> None:
        cache = PreparedDataset(self.task.class_shards, self.task.config.data)
        classes = [cache.classes[label] for label in self.task.groups[group]]
        images = condenser.result(state).images_KSCHW.numpy()
        shard = condensed_shard(images, classes, self.task.metadata)
        self.ledger.finish_group(group, shard, images.shape[0] * images.shape[1])


def _of_the_device(error: Exception) -> bool:
    """Whether the machine failed rather than the program: out of memory, or an error that CUDA reports."""
    kinds = (MemoryError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))
    return isinstance(error, kinds) or any(text in str(error) for text in ("CUDA error", "can't allocate memory"))
