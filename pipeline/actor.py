"""The Ray actor that condenses groups: a thin shell over a worker."""

import os
from collections.abc import Iterator
from typing import Any

import ray
import torch

from m3d.execution import Execution
from pipeline.group_task import GroupTask
from pipeline.run_log import RunLog
from pipeline.worker import GroupWorker


def device_of_actor() -> torch.device:
    """The GPU that Ray gave this process, if there really is one, otherwise the CPU."""
    # An actor without a GPU share sees every GPU of its node, and a logical GPU need not exist.
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda") if has_gpu else torch.device("cpu")


class CondenseActor:
    """What Ray places: a GroupWorker on the actor's device. Two threads, so that it can be told to stop."""

    def __init__(self, task: GroupTask) -> None:
        self._worker = GroupWorker(task, device_of_actor())
        self._log = RunLog(task.run)

    def ready(self) -> dict[str, Any]:
        """Where the actor runs: node, process, device, the GPUs that Ray gave it and those it sees; and how the step would be computed there."""
        device, execution = self._worker.device, self._worker.execution()
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "pid": os.getpid(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "memory": self._worker.memory(),
            "execution": execution.as_dict(),
            "note": execution.note,
            "room": self._worker.room().told(),
        }

    def stop(self) -> None:
        """Asks the group under way to save a checkpoint and end."""
        self._worker.stop()

    def condense(self, group: int, execution: Execution) -> Iterator[dict[str, Any]]:
        """Events of one group, as GroupWorker.condense yields them."""
        for event in self._worker.condense(group, execution):
            self._log.event(group, event)
            yield event
