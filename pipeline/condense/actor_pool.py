"""A pool of actors that condense the groups of a queue. Actors that die are replaced."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.condense.actor import CondenseActor
from pipeline.condense.events import ENDINGS, Emit, ExecutionChanged, Failed, GroupEvent, Lost, Ready
from pipeline.condense.group_queue import Attempt, GroupQueue
from pipeline.condense.task import GroupTask
from pipeline.errors import DeviceError, FailedError, UserError, first_line
from pipeline.runtime import session
from pipeline.runtime.placement import Placement, fitting_classes
from pipeline.runtime.tasks import out_of_memory, ran_out_of_memory, reason
from pipeline.runtime.watch import Watch, id_of

LOST = (RayError, DeviceError, asyncio.TimeoutError)
"""Errors after which an actor is replaced and its group is queued again. RayTaskError is handled first."""
RESPAWN_S = 0.5
"""Seconds before a lost actor is replaced. A node that is going down still takes actors for a moment."""


class ActorPool:
    """Slots that each keep one actor alive and give it one group after another. Create it inside an event loop."""

    def __init__(self, task: GroupTask, placement: Placement, queue: GroupQueue, emit: Emit, watch: Watch) -> None:
        """Creates a pool without slots.

        Args:
            task: what workers need to know, with the attempts at starting an actor and the time of silence after
                which it counts as dead.
            placement: what an actor takes of the cluster.
            queue: the groups.
            emit: receives all events.
            watch: bounds the start of an actor.
        """
        self._watch = watch
        self._task, self._placement, self._queue, self._emit = task, placement, queue, emit
        self._resources = task.config.resources
        self._execution = task.execution
        self._changed = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []
        # Ray's dashboard shows the names. A random part avoids a name that an earlier actor may still have.
        self._names = (f"condense-{task.run or 'run'}-{uuid.uuid4().hex[:4]}-{n}" for n in itertools.count(1))
        self._live = 0
        self._last_loss = ""
        self.actors: set[Any] = set()
        """Actors that are alive or starting."""
        self.idle_since: float | None = time.monotonic()
        """When the pool last lost its only live actor, on the monotonic clock; None while one is alive."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises the error after which the pool cannot continue."""

    def grow(self, slots: int) -> None:
        """Opens slots until there are as many as given."""
        while len(self._slots) < slots:
            slot = asyncio.create_task(self._slot())
            slot.add_done_callback(self._on_end)
            self._slots.append(slot)

    async def settled(self) -> None:
        """Returns when every group is finished, has failed or is left to the next call."""
        while self._queue.unfinished:
            await self._changed.wait()

    async def drain(self, timeout_s: float) -> None:
        """Starts no more groups, asks all actors to save their checkpoints, and waits for them."""
        self._queue.drain()
        self._notify()
        for actor in list(self.actors):
            actor.stop.remote()
        await asyncio.wait([asyncio.create_task(self.settled())], timeout=timeout_s)

    async def close(self) -> None:
        """Kills all actors."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self.broken.cancel()

    def _on_end(self, slot: asyncio.Task[None]) -> None:
        """Breaks the pool if a slot ended with an error, or if all have ended."""
        if slot.cancelled():
            return
        error = slot.exception()
        if error is None and all(other.done() for other in self._slots):
            error = FailedError(f"no actor can start: {self._last_loss}")
        if error is not None and not self.broken.done():
            self.broken.set_exception(error)

    async def _slot(self) -> None:
        """Keeps one actor alive after another. Ends when ``resources.attempts`` in a row could not start."""
        failed_starts = 0
        while failed_starts < self._resources.attempts:  # one actor per round
            actor, is_ready = self._spawn(), False
            try:
                ready = await actor.ready.remote()  # may wait for a node; it has no group meanwhile
                self._watch.release(actor)
                is_ready, failed_starts, self.idle_since = True, 0, None
                self._live += 1
                # The choice of the first device holds for all.
                self._execution = self._execution or replace(ready.execution, note="")
                self._emit(None, ready)
                while True:
                    await self._condense(actor, await self._next_attempt(ready), ready.node)
            except LOST as error:
                if isinstance(error, RayTaskError) and isinstance(error.cause, UserError):
                    raise error.cause from None  # a setting that this machine cannot meet: no new actor will help
                failed_starts += not is_ready
                silence = self._watch.silence_of(id_of(actor))
                self._last_loss = silence or reason(error, self._resources.stall_s)
                self._emit(None, Lost(why=self._last_loss))
                await asyncio.sleep(RESPAWN_S)
            finally:
                self.actors.discard(actor)
                self._live -= is_ready
                if not self._live:
                    self.idle_since = time.monotonic()
                ray.kill(actor)  # also ends an actor that hangs or lost its connection

    async def _next_attempt(self, ready: Ready) -> Attempt:
        while not self._queue.has_waiting:
            await self._changed.wait()
        return self._queue.take(fitting_classes(self._task.config, ready.memory))

    async def _condense(self, actor: Any, attempt: Attempt, node: str) -> None:
        """Makes one attempt at a group.

        Raises:
            RayError, DeviceError, TimeoutError: the actor is lost. The group is queued again.
        """
        try:
            await self._follow(actor, attempt.group, node)
        except RayTaskError as error:
            if isinstance(error.cause, DeviceError):
                self._give_back(attempt, error.cause)
                raise error.cause from None
            if isinstance(error.cause, FailedError):  # the storage: the actor is well, the group is tried again later
                self._give_back(attempt, error.cause)
                return
            # A mistake of the user's or of this program: another attempt cannot help.
            is_users = isinstance(error.cause, UserError)
            self._fail(attempt, error.cause if is_users else FailedError(f"group {attempt.group}: {reason(error, 0)}"))
        except FailedError as error:
            self._fail(attempt, error)
        except LOST as error:
            self._give_back(attempt, error)
            raise
        else:
            self._queue.finish(attempt)
            self._notify()

    async def _follow(self, actor: Any, group: int, node: str) -> None:
        """Hands on the events of a group until it is done or stopped."""
        last: GroupEvent | None = None
        call = actor.condense.options(name=self._work_name(group))
        async for event in _stream(call.remote(group, self._execution), self._resources.stall_s):
            last = replace(event, node=node)
            if isinstance(event, ExecutionChanged):
                self._execution = replace(event.execution, note="")
            self._emit(group, last)
        if not isinstance(last, ENDINGS):
            kind = last.kind if last else "none"
            raise FailedError(f"group {group}: ended without a finished shard (last event: {kind})")

    def _give_back(self, attempt: Attempt, error: BaseException) -> None:
        """Queues the group of a lost actor or storage again, or gives it up after its last attempt."""
        why = reason(error, self._resources.stall_s)
        self._emit(attempt.group, Lost(why=why))
        lost = "broke off" if isinstance(error, FailedError) else "lost its actor"
        final = FailedError(f"group {attempt.group}: {lost} {attempt.number} times, the last time: {why}")
        if ran_out_of_memory(error):
            final = out_of_memory("condense", error, attempt.number)
        if self._queue.give_back(attempt, final):
            self._emit(attempt.group, Failed(why=first_line(final)))
        self._notify()

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        self._queue.fail(attempt, error)
        self._emit(attempt.group, Failed(why=first_line(error)))
        self._notify()

    def _notify(self) -> None:
        """Wakes all that wait for a change of the queue."""
        self._changed.set()
        self._changed.clear()

    def _work_name(self, group: int) -> str:
        """Name of the work on a group in Ray's dashboard: its number and its labels."""
        first, *others = self._task.groups[group]
        return f"group {group} ({first}-{others[-1]})" if others else f"group {group} ({first})"

    def _spawn(self) -> Any:
        # Ray does not retry actors or their calls. A replayed stream of events would be cut to what the first one had
        # not yet delivered, and would silently end.
        options = {
            "name": next(self._names),
            "num_cpus": self._placement.cpus_per_actor,
            "num_gpus": self._placement.gpus_per_actor,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2,
            "scheduling_strategy": "SPREAD",
            "runtime_env": session.worker_environment(),
        }
        actor = ray.remote(CondenseActor).options(**options).remote(self._task)
        self.actors.add(actor)
        self._watch.expect(actor)
        return actor


async def _stream(stream: Any, stall_s: float) -> AsyncIterator[GroupEvent]:
    """The values of an actor's stream. Raises TimeoutError if it falls silent: a hung GPU never dies by itself."""
    while True:
        try:
            value = await asyncio.wait_for(anext(stream), stall_s)
        except StopAsyncIteration:
            return
        yield await value
