"""Shows and logs what happens while groups are condensed: the display, and the sinks put together."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pipeline.condense.events import Emit, ExecutionChanged, Failed, Leaving, Lost, Ready, Waiting
from pipeline.condense.sinks import (
    Curves,
    EventLog,
    Gauges,
    MetricsLog,
    RecordWriter,
    Tally,
    count_retries,
    track_losses,
)
from pipeline.condense.task import GroupTask
from pipeline.formats.run_record import RunRecord
from pipeline.observability.events import Event
from pipeline.observability.progress import Display
from pipeline.runtime import nodes
from pipeline.runtime.placement import Placement


class CondenseMonitor:
    """Hands every event to all sinks. Use it as a context, so that its files are closed."""

    def __init__(
        self, display: Display, task: GroupTask, placement: Placement, record: RunRecord, todo: Sequence[int]
    ) -> None:
        """Puts the sinks together.

        Args:
            display: counts iterations.
            task: of the run; its folder receives the logs.
            placement: what an actor takes of the cluster.
            record: content of config.json, which is updated.
            todo: numbers of the groups to condense.
        """
        tally = Tally(todo, groups=len(task.groups), iterations=task.config.condense.iterations)
        self._curves = Curves(task.folder)
        display.start_at(tally.iterations)
        decided = record["resolved"]["execution"] is not None
        self._sinks: Sequence[Emit] = (
            EventLog(task.folder, task.run),
            Notes(display, placement, tally, decided=decided),
            RecordWriter(task.folder, record),
            Gauges(task.run, tally),
            tally,
            MetricsLog(task.folder, task.groups),
            self._curves,
            track_losses,
            count_retries,
            ProgressBar(display, tally),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._curves.close()

    def __call__(self, group: int | None, event: Event) -> None:
        """Handles an event of a group, or of an actor or the run if ``group`` is None."""
        for sink in self._sinks:
            sink(group, event)


class Notes:
    """Prints a line for events that the user should know of."""

    def __init__(self, display: Display, placement: Placement, tally: Tally, *, decided: bool) -> None:
        """Prepares the notes.

        Args:
            display: where lines are printed.
            placement: what an actor takes of the cluster.
            tally: counts groups.
            decided: whether an earlier call has decided how a step is computed.
        """
        self._display, self._placement, self._tally, self._decided = display, placement, tally, decided
        self._has_described_memory = False

    def __call__(self, group: int | None, event: Event) -> None:
        """Prints the line of an event, if it has one."""
        match event:
            case Ready():
                self._ready(event)
            case ExecutionChanged():
                self._display.note(event.why)
            case Lost() if group is None:
                self._display.note(f"an actor was lost ({event.why}); a new one takes its place")
            case Failed():
                self._display.note(f"group {group} failed: {event.why}")
            case Waiting():
                self._display.note(_starting(event.starting) if event.starting else self._waiting())
            case Leaving():
                self._display.note("stopping: saving checkpoints")
            case _:
                pass

    def _ready(self, event: Ready) -> None:
        if not self._has_described_memory:
            self._has_described_memory = True
            self._display.note(event.room)
        if not self._decided:
            self._decided = True
            if event.note:
                self._display.note(event.note)
            elif event.execution.compiled:
                self._display.note("compiling the encoder: under a minute, or a few seconds if it is cached")

    def _waiting(self) -> str:
        """What the run waits for, and how much of it is free: "8 groups wait for 1 GPU each; ..."."""
        left = self._tally.groups - self._tally.finished
        shortage = nodes.shortage(self._placement.cpus_per_actor, self._placement.gpus_per_actor)
        return f"{left} {'group waits' if left == 1 else 'groups wait'} for {shortage}"


class ProgressBar:
    """Moves the progress bar when a group advances."""

    def __init__(self, display: Display, tally: Tally) -> None:
        self._display, self._tally = display, tally

    def __call__(self, group: int | None, event: Event) -> None:
        """Shows the iterations of all groups, their rate and their mean loss."""
        if group is None or isinstance(event, ExecutionChanged):
            return
        tally, loss = self._tally, self._tally.loss()
        status = f"{tally.finished}/{tally.groups} groups, {tally.rate():.1f} it/s"
        self._display.update(tally.iterations, status if loss is None else f"{status}, loss {loss:.4f}")


def _starting(actors: int) -> str:
    verb = "actor is" if actors == 1 else "actors are"
    return f"{actors} {verb} starting; it takes longer where their nodes are busy"
