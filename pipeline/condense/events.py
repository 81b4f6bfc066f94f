"""Events of the condense stage, from workers, actors and the driver to logs, metrics and the display. No Ray here.

They are pickled when an actor sends them, so they hold plain values. The name and the fields of an event are those of
its line in events.jsonl, with two exceptions: ``Progress`` becomes ``begin``, and its losses are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from m3d.backend.execution import Execution
from pipeline.observability.events import UNLOGGED, Event

Emit = Callable[[int | None, Event], None]
"""Receives an event and the number of its group; None for events of actors and of the run."""


@dataclass(frozen=True, kw_only=True)
class LossSample:
    """The losses of a group at one log iteration."""

    iteration: int
    losses: tuple[float, ...]
    """Loss of every class, in the order of the group."""
    images_per_s: float
    """Real and synthetic images per second since the sample before."""
    start_losses: tuple[float, ...] = ()
    """Loss of every class's starting images under the same draws; empty if it was not measured."""

    @property
    def mean(self) -> float:
        """Mean loss of the classes."""
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True, kw_only=True)
class Ready(Event):
    """An actor has started."""

    kind: ClassVar[str] = "ready"
    node: str
    """Ray's id of the node."""
    pid: int
    device: str
    gpus: list[str]
    """Ids of the GPUs that Ray assigned to the actor."""
    visible: str | None
    """CUDA_VISIBLE_DEVICES of the process."""
    memory: float
    """Bytes of GPU memory that the actor may use; 0 on a CPU."""
    execution: Execution
    """How a step would be computed on this device."""
    note: str
    """Remark for the user about ``execution``, or an empty text."""
    room: str
    """Sentence about where the real images are kept."""

    def logged(self) -> dict[str, object]:
        """The fields of a log line."""
        return {**super().logged(), "execution": self.execution.as_dict()}


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """A group has advanced. The first such event of an attempt has the iteration that it starts from."""

    kind: ClassVar[str] = "progress"
    iteration: int
    losses: tuple[LossSample, ...] = field(default=(), metadata=UNLOGGED)
    """Samples since the event before."""
    checkpoint_age_s: float | None = None
    """Seconds since the last checkpoint of the group."""
    node: str | None = None
    """Node of the actor, filled in by the driver."""


@dataclass(frozen=True, kw_only=True)
class Compiled(Event):
    """A worker has compiled the encoder."""

    kind: ClassVar[str] = "compiled"
    seconds: float
    node: str | None = None
    """Node of the actor, filled in by the driver."""


@dataclass(frozen=True, kw_only=True)
class ExecutionChanged(Event):
    """From here on the run computes its steps in another way."""

    kind: ClassVar[str] = "execution"
    execution: Execution
    why: str
    node: str | None = None
    """Node of the actor, filled in by the driver."""

    def logged(self) -> dict[str, object]:
        """The fields of a log line."""
        return {**super().logged(), "execution": self.execution.as_dict()}


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """A worker was asked to stop and has saved the checkpoint of its group."""

    kind: ClassVar[str] = "stopped"
    iteration: int
    retries: int = 0
    """Requests to the storage that the worker repeated since it last reported them."""
    node: str | None = None
    """Node of the actor, filled in by the driver."""


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """A group is finished and its shard is stored."""

    kind: ClassVar[str] = "done"
    iteration: int
    retries: int = 0
    """Requests to the storage that the worker repeated since it last reported them."""
    node: str | None = None
    """Node of the actor, filled in by the driver."""


@dataclass(frozen=True, kw_only=True)
class Lost(Event):
    """An actor is gone or was given up, or a group has lost its actor or its storage."""

    kind: ClassVar[str] = "lost"
    why: str


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """A group has failed for good."""

    kind: ClassVar[str] = "failed"
    why: str


@dataclass(frozen=True, kw_only=True)
class Waiting(Event):
    """No actor has been alive for a while."""

    kind: ClassVar[str] = "waiting"
    starting: int
    """Actors that have their place on a node and are only starting."""


@dataclass(frozen=True, kw_only=True)
class Leaving(Event):
    """The run was interrupted. Actors save their checkpoints."""

    kind: ClassVar[str] = "leaving"


@dataclass(frozen=True, kw_only=True)
class Tick(Event):
    """A few seconds have passed. Ticks refresh metrics and are not logged."""

    kind: ClassVar[str] = "tick"


GroupEvent = Progress | Compiled | ExecutionChanged | Stopped | Done
"""What a worker reports about a group."""
ENDINGS = (Done, Stopped)
"""The last event of a successful attempt at a group is one of these."""
