"""Turns the events of ``pretrain``'s workers into its display and into lines of events.jsonl."""

import json
import time
from collections.abc import Sequence

from pipeline.config.run_config import Pretrain
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import jsonl_log
from pipeline.observability.progress import Display
from pipeline.observability.trackers.tracking import track
from pipeline.pretrain.events import (
    EpochDone,
    Event,
    Progress,
    Refused,
    TrajectoryDone,
    TrajectoryStarted,
    WorkerStarted,
    line_of,
)


class PretrainMonitor:
    """Shows and logs events; called with those that arrived since the last call."""

    def __init__(self, display: Display, folder: RunFolder, pretrain: Pretrain, steps: int) -> None:
        """Args: display, folder of the run, settings of ``pretrain``, and steps of one epoch."""
        self.display, self.folder, self.pretrain, self.steps = display, folder, pretrain, steps
        self.done = 0
        """Steps of all networks that are done."""
        self.starts, self.started, self.loss = 0, False, ""
        self.refused = ""
        """Message of the workers that gave up, or an empty string."""

    def __call__(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, Progress):
                line = {"time": round(time.time(), 3), "stage": "pretrain", **line_of(event)}
                jsonl_log.append(self.folder.events, json.dumps(line))
            self._show(event)
        if self.started:
            self.display.update(self.done, self._status())

    def _show(self, event: Event) -> None:
        match event:
            case Refused():
                self.refused = event.why
            case WorkerStarted():
                self._count_starts(event)
            case TrajectoryStarted():
                self.done = self._steps_done(event)
                self._start(event)
            case EpochDone():
                self.done = self._steps_done(event)
                self.loss = f", loss {event.loss:.4f}"
                track(f"pretrain/loss/seed-{event.seed}", event.loss, event.epoch, "epoch")
            case Progress():
                self.done = self._steps_done(event) + event.step
            case TrajectoryDone():
                self.done = self._steps_done(event)

    def _steps_done(self, event: TrajectoryStarted | EpochDone | Progress | TrajectoryDone) -> int:
        return (event.seed * self.pretrain.epochs + event.epoch) * self.steps

    def _count_starts(self, event: WorkerStarted) -> None:
        self.starts += event.rank == 0
        if event.rank == 0 and self.starts > 1:
            self.display.note(
                "pretrain: a worker was lost; all workers were started again and resume from the last checkpoint"
            )

    def _start(self, event: TrajectoryStarted) -> None:
        if not self.started:
            self.started = True
            self.display.start_at(self.done)
        if event.epoch:
            self.display.note(f"pretrain: seed {event.seed} resumes after epoch {event.epoch}")

    def _status(self) -> str:
        networks, steps = self.pretrain.trajectories, self.pretrain.epochs * self.steps
        seed, rest = divmod(min(self.done, networks * steps - 1), steps)
        network = f"network {seed + 1}/{networks}, " if networks > 1 else ""
        epoch = -(-(rest + 1) // self.steps)
        return f"{network}epoch {epoch}/{self.pretrain.epochs}{self.loss}"
