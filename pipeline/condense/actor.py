"""The Ray actor that condenses groups: a thin shell over a worker."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch

from m3d.backend.execution import Execution
from pipeline.condense.task import GroupTask
from pipeline.condense.worker import GroupWorker
from pipeline.runtime.devices import device_of_actor


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


class RunLog:
    """Writes to stderr, which Ray keeps per process."""

    def __init__(self, run: str) -> None:
        self.run = run

    def event(self, group: int | None, event: dict[str, Any]) -> None:
        """One event; of the losses only their mean."""
        told = {key: value for key, value in event.items() if key != "losses"}
        entry = {"time": round(time.time(), 3), "run": self.run, "group": group, **told}
        for _, losses, rate in event.get("losses", ())[-1:]:
            entry |= {"loss": round(sum(losses) / len(losses), 6), "images_per_s": rate}
        print(json.dumps(entry), file=sys.stderr, flush=True)
