"""The worker: a plain class that condenses one group after another. No Ray here."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

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
from pipeline.condense.events import Compiled, Done, ExecutionChanged, GroupEvent, Progress, Stopped
from pipeline.condense.group_store import Checkpoints, GroupStore
from pipeline.condense.losses import Meter, StartLoss
from pipeline.condense.memory_tier import GIB, MemoryTier, choose_tier, host_memory
from pipeline.condense.task import GroupTask
from pipeline.data.disk_cache import folder_of, room_for_copies
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import DeviceError, UserError, first_line, listed
from pipeline.formats.condense_checkpoint import placed
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.storage import s3


class GroupWorker:
    """Condenses groups of classes on one device. Each group resumes from its last checkpoint."""

    def __init__(self, task: GroupTask, device: torch.device) -> None:
        self.task, self.device = task, device
        self.store = GroupStore(task.folder, task.identity)
        self._stop = threading.Event()
        self._reported_retries = s3.retries()

    @cached_property
    def dataset(self) -> PreparedDataset:
        """The class shards. Raises UserError if they are missing or damaged."""
        return PreparedDataset(self.task.class_shards, self.task.config.data)

    @cached_property
    def tier(self) -> MemoryTier:
        """Where this machine keeps the real images of a group, chosen for the largest group.

        Raises:
            UserError: they must be mapped from local copies, which do not fit on the disk.
        """
        task, gpu = self.task, self.device.type == "cuda"
        tier = choose_tier(
            max(self.dataset.train_bytes(group) for group in task.groups),
            host=int(host_memory() / task.actors_per_node),
            device=int(torch.cuda.mem_get_info(self.device)[0] * task.gpu_share) if gpu else None,
            wanted=task.config.resources.hold,
        )
        if tier.name == "mapped" and not storage.is_local(task.class_shards):
            self._require_disk(tier)
        return tier

    def stop(self) -> None:
        """Asks the current group to save a checkpoint and end."""
        self._stop.set()

    def memory(self) -> float:
        """Bytes of the GPU that this worker may use; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0.0
        return torch.cuda.get_device_properties(self.device).total_memory * self.task.gpu_share

    def execution(self) -> Execution:
        """How a step is computed on this device: as the run decided before, otherwise as it suits the device.

        Raises:
            UserError: the run is compiled, and this machine cannot compile.
        """
        try:
            return self._decided() or self._suitable()
        except ConfigError as error:
            raise UserError(str(error)) from None

    def _decided(self) -> Execution | None:
        execution = self.task.execution
        if execution is None or not execution.compiled:
            return execution
        lacking = compiler.missing(self.device)
        if lacking:
            raise UserError(
                f"this run began compiled, but this machine has no {lacking}: install it here, or start a new run with "
                "condense.compile=off and another --out"
            )
        return execution

    def _suitable(self) -> Execution:
        task, memory = self.task, self.memory()
        channels, height, width = self.dataset.manifest["shape"]
        return choose(
            task.config.method,
            shape=(channels, height, width),
            classes=task.classes_per_actor,
            device=self.device,
            threads=task.threads,
            memory=min(memory, task.gpu_memory * task.gpu_share or memory) if memory else None,
        )

    def _require_disk(self, tier: MemoryTier) -> None:
        """Raises UserError if the local copies of images to be mapped do not fit on this node."""
        data, actors = self.task.config.data, self.task.actors_per_node
        available = room_for_copies(data)
        if tier.needed * actors > available:
            raise UserError(
                f"real images: {tier.needed / GIB:.2f} GiB in the largest group do not fit into memory, and {actors} actors a node have "
                f"{available / GIB:.2f} GiB for copies in {folder_of(data)}; lower resources.classes_per_group, raise data.disk_cache_gib, "
                "or choose another data.disk_cache"
            )

    def condense(self, group: int, execution: Execution) -> Iterator[GroupEvent]:
        """Condenses one group and stores its shard.

        Args:
            group: number of the group in the task.
            execution: how the run computes a step, whatever this device would choose.

        Yields:
            Progress at the start and every ``report_every_s`` seconds; Compiled; ExecutionChanged if the memory runs
            out or the compiler fails, which holds for all groups from then on; at the end Done, or Stopped after a
            call of ``stop``.

        Raises:
            UserError: a loss is not finite, or an image or a shard cannot be read or written.
            DeviceError: the device failed or has no memory.
        """
        torch.set_num_threads(self.task.threads)
        while True:
            try:
                yield from self._condense(group, execution)
                return
            except Exception as error:
                execution = self._fallback(execution, error)
            yield ExecutionChanged(execution=execution, why=execution.note)

    def _fallback(self, execution: Execution, error: Exception) -> Execution:
        """How to compute after an error, with a note that gives the reason. Raises if there is no other way."""
        if isinstance(error, torch.OutOfMemoryError):
            forget_passes()  # with what was compiled and recorded for the larger blocks
            torch.compiler.reset()
            try:
                halved = execution.halved()
            except ConfigError as nothing_left:
                raise UserError(str(nothing_left)) from None
            note = f"out of memory: goes on with {halved.real_block} real images and {halved.synthetic_block} views at once"
            return replace(halved, note=note)
        if execution.compiled and compiler.failed(error):
            why = compiler.reason(error)
            if self.task.config.condense.compile == "auto":
                return replace(execution, compiled=False, note=f"goes on without the compiler, which failed: {why}")
            raise UserError(f"the compiler failed ({why}); use condense.compile=off") from error
        if isinstance(error, MemoryError | RuntimeError) and _is_of_the_device(error):
            raise DeviceError(f"{type(error).__name__}: {first_line(error)}") from None
        raise error

    def _condense(self, group: int, execution: Execution) -> Iterator[GroupEvent]:
        condenser, names = self._condenser(group, execution)
        start = condenser.init()
        reference = StartLoss(condenser, start)
        state = self._resumed(group, condenser, start)
        yield Progress(iteration=state.iteration)
        if execution.compiled and state.iteration < condenser.condense.iterations:
            began = time.monotonic()
            with compiler.alone():
                condenser.warm_up(state)
            yield Compiled(seconds=round(time.monotonic() - began, 1))
        checkpoints = Checkpoints(self.store, group, self.task.config, state.iteration)
        checkpoints.show(start)
        if state is not start:  # a run that was stopped right at a snapshot has not written it
            checkpoints.show(state)
        del start  # a resumed group does not need its memory
        meter = Meter(condenser, state.iteration)
        reported = time.monotonic()
        try:
            for step in iterate(condenser, state):
                state = step.state
                meter.record(step, reference)
                if self._stop.is_set():
                    break
                checkpoints.after(state)
                if time.monotonic() - reported >= self.task.report_every_s:
                    age = round(time.monotonic() - checkpoints.saved_s, 1)
                    yield Progress(iteration=state.iteration, losses=meter.take(), checkpoint_age_s=age)
                    reported = time.monotonic()
        except NotFiniteError as error:
            raise UserError(f"group {group} ({listed(names)}): {error}") from None
        if state.iteration < condenser.condense.iterations:
            checkpoints.save(state)
            checkpoints.settle()
            yield Stopped(iteration=state.iteration, retries=self._new_retries())
            return
        checkpoints.settle()
        yield Progress(iteration=state.iteration, losses=meter.take())
        self._finish(group, condenser, state)
        yield Done(iteration=state.iteration, retries=self._new_retries())

    def _resumed(self, group: int, condenser: Condenser, start: CondenseState) -> CondenseState:
        """The state of the group's checkpoint, or the initial state if no checkpoint fits."""
        saved = self.store.load_checkpoint(group)
        if (
            saved is None
            or saved.pixels_KSCHW.shape != start.pixels_KSCHW.shape
            or saved.iteration > condenser.condense.iterations
        ):
            return start
        return placed(saved, self.device)

    def _condenser(self, group: int, execution: Execution) -> tuple[Condenser, list[str]]:
        config, labels = self.task.config, self.task.groups[group]
        dataset = self.dataset
        mean, std = dataset.moments
        real = self._real(dataset, labels)
        condenser = Condenser(
            real,
            config.method,
            mean=mean,
            std=std,
            class_count=len(dataset.classes),
            execution=execution,
        )
        return condenser, [dataset.classes[label]["name"] for label in labels]

    def _real(self, dataset: PreparedDataset, labels: tuple[int, ...]) -> RealImages:
        tier, seed = self.tier.name, self.task.config.seed
        if tier == "device":
            return ClassImages([dataset.train_parts(label) for label in labels], labels, seed=seed, device=self.device)
        images = [
            dataset.train_parts(label, must_map=True)
            if tier == "mapped"
            else ImageParts([dataset.train(label).clone()])
            for label in labels
        ]
        return StreamedImages(images, labels, seed=seed, device=self.device)

    def _new_retries(self) -> int:
        """Requests to the storage that were repeated since the last call."""
        total = s3.retries()
        new, self._reported_retries = total - self._reported_retries, total
        return new

    def _finish(self, group: int, condenser: Condenser, state: CondenseState) -> None:
        classes = [self.dataset.classes[label] for label in self.task.groups[group]]
        images = condenser.result(state).images_KSCHW.numpy()
        shard = condensed_shard(images, classes, self.task.metadata)
        self.store.finish_group(group, shard, images.shape[0] * images.shape[1])


def _is_of_the_device(error: Exception) -> bool:
    """Whether the machine failed and not the program: out of memory, or an error that CUDA reports."""
    kinds = (MemoryError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))
    return isinstance(error, kinds) or any(text in str(error) for text in ("CUDA error", "can't allocate memory"))
