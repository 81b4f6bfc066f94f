"""The Ray actor that condenses groups: a thin shell over a worker, and its log."""

import os
import sys
from collections.abc import Iterator

import ray

from m3d.backend.device_names import short_device_name
from m3d.backend.execution import Execution
from pipeline.condense.events import GroupEvent, Progress, Ready
from pipeline.condense.task import GroupTask
from pipeline.condense.worker import GroupWorker
from pipeline.observability.events import log_line
from pipeline.runtime.devices import assigned_device


class CondenseActor:
    """A GroupWorker on the actor's device. Ray runs it with two threads, so that ``stop`` can interrupt a group."""

    def __init__(self, task: GroupTask) -> None:
        self._worker = GroupWorker(task, assigned_device())
        self._log = ActorLog(task.run)

    def ready(self) -> Ready:
        """Where the actor runs, and how it would compute a step there.

        Raises:
            UserError: a setting that this machine cannot meet.
        """
        execution = self._worker.execution()
        return Ready(
            node=ray.get_runtime_context().get_node_id(),
            pid=os.getpid(),
            device=short_device_name(self._worker.device),
            gpus=[str(gpu) for gpu in ray.get_gpu_ids()],
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
            memory=self._worker.memory(),
            execution=execution,
            note=execution.note,
            room=self._worker.tier.described(),
        )

    def stop(self) -> None:
        """Asks the current group to save a checkpoint and end."""
        self._worker.stop()

    def condense(self, group: int, execution: Execution) -> Iterator[GroupEvent]:
        """Yields the events of one group, as GroupWorker.condense does, and logs them."""
        for event in self._worker.condense(group, execution):
            self._log.write(group, event)
            yield event


class ActorLog:
    """The log of an actor on stderr, which Ray keeps per process."""

    def __init__(self, run: str) -> None:
        """Args: the name of the run."""
        self.run = run

    def write(self, group: int, event: GroupEvent) -> None:
        """Writes a line. Of losses it has only the last mean and throughput."""
        entry = {"run": self.run, "group": group, "event": event.kind, **event.logged()}
        if isinstance(event, Progress) and event.losses:
            last = event.losses[-1]
            entry |= {"loss": round(last.mean, 6), "images_per_s": last.images_per_s}
        print(log_line(**entry), file=sys.stderr, flush=True)
