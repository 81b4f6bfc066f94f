"""What workers of ``pretrain`` report to the driver. Every event but ``Progress`` becomes a line of events.jsonl."""

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class WorkerStarted:
    """A worker has started."""

    kind: ClassVar = "worker"
    rank: int
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class TrajectoryStarted:
    """The training of a network starts or resumes."""

    kind: ClassVar = "begin"
    seed: int
    epoch: int
    """Epochs that its checkpoint has done."""
    steps: int
    """Steps of an epoch."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Some steps of an epoch are done; for the display alone."""

    kind: ClassVar = "progress"
    seed: int
    epoch: int
    """Epochs that are done."""
    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """An epoch is done."""

    kind: ClassVar = "epoch"
    seed: int
    epoch: int
    """Epochs that are done."""
    loss: float
    """Mean training loss of the epoch."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryDone:
    """The training of a network is finished."""

    kind: ClassVar = "done"
    seed: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Refused:
    """All workers gave up: another start would end in the same way."""

    kind: ClassVar = "refused"
    why: str
    """Message for the user."""


Event = WorkerStarted | TrajectoryStarted | Progress | EpochDone | TrajectoryDone | Refused


def line_of(event: Event) -> dict[str, object]:
    """Returns the keys of an event's line in events.jsonl, in their order."""
    return {"event": event.kind, **asdict(event)}
