"""Sinks of events: each keeps one log, one kind of metrics or one file of a condensing run up to date."""

import time
from collections.abc import Sequence
from typing import cast

from m3d.backend.execution import Execution
from pipeline.condense.events import Done, ExecutionChanged, Failed, Lost, Progress, Ready, Stopped, Tick
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import ExecutionEntry, RunRecord
from pipeline.observability import jsonl_log
from pipeline.observability.events import Event, log_line
from pipeline.observability.prometheus import RunMetrics
from pipeline.observability.tensorboard_writer import TensorBoardWriter
from pipeline.observability.trackers.tracking import track
from pipeline.storage import s3


class Tally:
    """Counts iterations and finished groups."""

    def __init__(self, todo: Sequence[int], *, groups: int, iterations: int) -> None:
        """Starts at the groups that earlier calls finished.

        Args:
            todo: numbers of the groups to condense.
            groups: number of groups of the run.
            iterations: iterations of one group.
        """
        self.groups = groups
        self.finished = groups - len(todo)
        """Groups that are finished."""
        self._before = self.finished * iterations
        self._at = dict.fromkeys(todo, 0)
        self._begun: set[int] = set()
        # Totals of all groups, kept up to date: adding up the groups at every event would grow with their square.
        self._reached = self._computed = 0
        self._losses: dict[int, tuple[float, int]] = {}
        self._loss_sum, self._loss_count = 0.0, 0
        self._began = time.monotonic()

    def __call__(self, group: int | None, event: Event) -> None:
        """Counts an event."""
        if group is None:
            return
        if isinstance(event, Lost):
            self._begun.discard(group)
        if isinstance(event, Progress | Stopped | Done):
            advance = event.iteration - self._at[group]
            self._reached += advance
            self._computed += advance if group in self._begun else 0  # an attempt begins where its checkpoint is
            self._begun.add(group)
            self._at[group] = event.iteration
        if isinstance(event, Progress) and event.losses:
            self._measure(group, event.losses[-1].losses)
        if isinstance(event, Done):
            self.finished += 1

    @property
    def iterations(self) -> int:
        """Iterations of all groups so far, with those of earlier calls."""
        return self._before + self._reached

    def rate(self) -> float:
        """Iterations per second in this call, of all groups together. Lost iterations count."""
        return self._computed / max(1e-9, time.monotonic() - self._began)

    def loss(self) -> float | None:
        """Mean of the last losses of all classes; None before the first."""
        return self._loss_sum / self._loss_count if self._loss_count else None

    def _measure(self, group: int, losses: Sequence[float]) -> None:
        """Replaces the last losses of a group's classes."""
        before, count = self._losses.get(group, (0.0, 0))
        self._losses[group] = now = (sum(losses), len(losses))
        self._loss_sum += now[0] - before
        self._loss_count += now[1] - count


class EventLog:
    """Writes every event but Tick and repeated Progress to events.jsonl."""

    def __init__(self, folder: RunFolder, run: str) -> None:
        """Args: the folder of the run, and its name."""
        self._path, self._run = folder.events, run
        self._begun: set[int | None] = set()

    def __call__(self, group: int | None, event: Event) -> None:
        """Writes a line. Of an attempt's progress only the first event is written, as ``begin``."""
        if isinstance(event, Tick) or (isinstance(event, Progress) and group in self._begun):
            return
        name = event.kind
        if isinstance(event, Progress):
            name = "begin"
            self._begun.add(group)
        if isinstance(event, Lost):
            self._begun.discard(group)
        jsonl_log.append(self._path, log_line(event=name, run=self._run, group=group, **event.logged()))


class MetricsLog:
    """Writes losses to metrics.jsonl."""

    def __init__(self, folder: RunFolder, groups: Sequence[Sequence[int]]) -> None:
        """Args: the folder of the run, and the labels of the classes of every group."""
        self._path, self._groups, self._began = folder.metrics, groups, time.monotonic()

    def __call__(self, group: int | None, event: Event) -> None:
        """Writes a line per sample."""
        if group is None or not isinstance(event, Progress):
            return
        labels = [str(label) for label in self._groups[group]]
        for sample in event.losses:
            line = log_line(
                seconds=round(time.monotonic() - self._began, 3),
                group=group,
                iteration=sample.iteration,
                loss=dict(zip(labels, sample.losses, strict=True)),
                images_per_s=sample.images_per_s,
                **({"start_loss": dict(zip(labels, sample.start_losses, strict=True))} if sample.start_losses else {}),
            )
            jsonl_log.append(self._path, line)


class Curves:
    """Draws the mean loss and the throughput of every group for TensorBoard."""

    def __init__(self, folder: RunFolder) -> None:
        self._writer = TensorBoardWriter(folder.tensorboard)

    def __call__(self, group: int | None, event: Event) -> None:
        """Adds the samples of a group's progress."""
        if group is None or not isinstance(event, Progress):
            return
        for sample in event.losses:
            self._writer.add(f"loss/group-{group:05d}", sample.mean, sample.iteration)
            self._writer.add(f"images_per_second/group-{group:05d}", sample.images_per_s, sample.iteration)

    def close(self) -> None:
        """Writes the remaining points."""
        self._writer.close()


def track_losses(group: int | None, event: Event) -> None:
    """Sends the mean loss and the throughput of a group to the trackers."""
    if group is None or not isinstance(event, Progress):
        return
    for sample in event.losses:
        track(f"loss/group-{group:05d}", sample.mean, sample.iteration, "iteration")
        track(f"images_per_second/group-{group:05d}", sample.images_per_s, sample.iteration, "iteration")


class Gauges:
    """Sets the metrics for Prometheus."""

    def __init__(self, run: str, tally: Tally) -> None:
        """Args: the name of the run, and the counts that ticks export."""
        self._metrics, self._tally = RunMetrics(run, tally.groups, tally.finished), tally

    def __call__(self, group: int | None, event: Event) -> None:
        """Sets what an event changes."""
        if isinstance(event, Tick):
            self._metrics.rate(self._tally.rate())
            self._metrics.refresh()
        if group is None:
            return
        if isinstance(event, Lost):
            self._metrics.retried()
        if isinstance(event, Done | Lost | Failed | Stopped):
            self._metrics.idle(group)
        if isinstance(event, Done):
            self._metrics.finished(group)
        if isinstance(event, Progress):
            if event.checkpoint_age_s is not None:
                self._metrics.checkpointed(group, event.checkpoint_age_s)
            if event.losses:
                self._metrics.measured(group, event.losses[-1].mean, event.losses[-1].images_per_s)


class RecordWriter:
    """Writes to config.json how the run computes a step, when that is decided or changes."""

    def __init__(self, folder: RunFolder, record: RunRecord) -> None:
        """Args: the folder of the run, and its record, which this sink updates."""
        self._folder, self._record = folder, record

    def __call__(self, group: int | None, event: Event) -> None:
        """Writes the choice of the first device, and every change."""
        if isinstance(event, Ready) and self._record["resolved"]["execution"] is None:
            # The choice of the first device holds for the run, even if it is resumed on another one.
            self._record["resolved"]["device"] = event.device
            self._write(event.execution)
        if isinstance(event, ExecutionChanged):
            self._write(event.execution)

    def _write(self, execution: Execution) -> None:
        self._record["resolved"]["execution"] = cast(ExecutionEntry, execution.as_dict())
        self._folder.write_record(self._record)


def count_retries(group: int | None, event: Event) -> None:
    """Adds a worker's repeated requests to the storage to those of the driver."""
    if isinstance(event, Done | Stopped):
        s3.add_retries(event.retries)
