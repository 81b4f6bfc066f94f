"""The driver at moments that real actors reach only by chance: a pool of the test's own stands in for them. No Ray."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.condense import driver
from pipeline.condense.events import Emit, Leaving, Tick, Waiting
from pipeline.condense.group_queue import GroupQueue
from pipeline.condense.task import GroupTask
from pipeline.errors import Interrupted
from pipeline.observability.events import Event
from pipeline.runtime.placement import Placement

TASK = cast(
    GroupTask,
    SimpleNamespace(groups=[(0,), (1,)], config=SimpleNamespace(resources=SimpleNamespace(attempts=3, stall_s=60.0))),
)
PLACEMENT = cast(Placement, SimpleNamespace(actors=1))


class Pool:
    """Takes one group and keeps it until the test ends the run."""

    last: "Pool"

    def __init__(self, task: GroupTask, placement: Placement, queue: GroupQueue, emit: Emit, watch: object) -> None:
        Pool.last = self
        self.queue = queue
        self.actors: Sequence[Any] = ()
        self.idle_since: float | None = None
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    def grow(self, slots: int) -> None:
        self.attempt = self.queue.take(1)
        self.began()

    def began(self) -> None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)

    async def settled(self) -> None:
        await asyncio.wait_for(self.ended.wait(), 30)

    async def drain(self, timeout_s: float) -> None:
        self.queue.drain()

    async def close(self) -> None:
        self.broken.cancel()


@pytest.fixture(autouse=True)
def _nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "Watch", lambda stall_s: contextlib.nullcontext())


def test_a_group_lost_at_the_moment_of_an_interruption_is_left_to_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "ActorPool", Pool)
    waiting = []

    def emit(group: int | None, event: Event) -> None:
        if isinstance(event, Leaving):  # before the actors are asked to stop
            Pool.last.queue.give_back(Pool.last.attempt, RuntimeError("its node is gone"))
            waiting.append(Pool.last.queue.has_waiting)

    with pytest.raises(Interrupted):
        driver.drive(TASK, [0, 1], PLACEMENT, emit)
    assert waiting == [False]


@pytest.mark.parametrize("becomes_ready", [True, False])
def test_nobody_is_waited_for_when_an_actor_became_ready_meanwhile(
    monkeypatch: pytest.MonkeyPatch, becomes_ready: bool
) -> None:
    class Idle(Pool):
        def began(self) -> None:
            self.idle_since = time.monotonic()

    def starting(actors: Sequence[Any]) -> bool:
        if becomes_ready:
            Pool.last.idle_since = None
        return True

    events: list[str] = []

    def emit(group: int | None, event: Event) -> None:
        events.append(type(event).__name__)
        if events.count(Tick.__name__) == 3:
            Pool.last.ended.set()

    monkeypatch.setattr(driver, "ActorPool", Idle)
    monkeypatch.setattr(driver, "WATCH_S", 0.01)
    monkeypatch.setattr(driver, "WAITING_S", 0.0)
    monkeypatch.setattr(driver.nodes, "starting", starting)
    driver.drive(TASK, [0, 1], PLACEMENT, emit)
    assert (Waiting.__name__ in events) is not becomes_ready
