"""Drives the condensation: actors, a queue of groups, replacement of what dies.

The driver owns the queue; an actor has one group at a time. Actors and their calls are not retried by Ray:
a replayed stream of events would be cut to what the first one had not yet delivered, and silently end.
Instead a lost actor's group goes back into the queue and on from its checkpoint on a fresh actor.
"""

import asyncio
import itertools
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from m3d.backend.execution import Execution
from pipeline.condense.actor import CondenseActor
from pipeline.condense.group_queue import chosen
from pipeline.condense.task import GroupTask
from pipeline.config.run_config import Resources
from pipeline.errors import DeviceError, FailedError, Interrupted, UserError, first_line
from pipeline.runtime import nodes, session
from pipeline.runtime.placement import Placement, room
from pipeline.runtime.tasks import reason

LOST = (RayError, DeviceError, asyncio.TimeoutError)
"""The actor is gone, silent or of no more use; its group is not. (A task's own error is looked at before.)"""
LEAVE_S = 20.0
"""Seconds that actors have to save when the run is interrupted."""
RESPAWN_S = 0.5
"""A node that is going down still takes actors for a moment."""
SAY_WAITING_S = 10.0
WATCH_S = 2.0

Emit = Callable[[int | None, dict[str, Any]], None]


def drive(
    task: GroupTask,
    todo: list[int],
    placement: Placement,
    resources: Resources,
    emit: Emit,
    *,
    capacity: Callable[[], int] | None = None,
) -> dict[int, BaseException]:
    """Runs every group in ``todo`` to its end; returns those that failed, with why.

    Args:
        task: what workers must know.
        todo: groups to condense.
        placement: how many actors, and what each takes.
        resources: attempts and the time of silence after which an actor counts as dead.
        emit: called with (group, event) for every event, and (None, event) for those of actors.
        capacity: actors that the cluster can hold now; asked every few seconds, so that nodes that come
            later get work. Without it the number of actors stays what it was.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the actors have saved their checkpoints.
    """
    return asyncio.run(_Drive(task, todo, placement, resources, emit, capacity).run())


class _Drive:
    def __init__(
        self,
        task: GroupTask,
        todo: list[int],
        placement: Placement,
        resources: Resources,
        emit: Emit,
        capacity: Callable[[], int] | None,
    ) -> None:
        self.task, self.placement, self.resources, self.emit = task, placement, resources, emit
        self.capacity = capacity
        self.unfinished = len(todo)
        self.slots: list[asyncio.Task[None]] = []
        # The queue counts what waits and what is under way; which group an actor takes, its memory decides.
        self.queue: asyncio.Queue[None] = asyncio.Queue()
        self.waiting: list[tuple[int, int]] = []
        for group in todo:
            self._put(group, 1)
        self.failed: dict[int, BaseException] = {}
        self.actors: set[Any] = set()
        # Names are for people in Ray's dashboard; one that an actor before had may still be taken.
        self.names = (f"condense-{task.run or 'run'}-{uuid.uuid4().hex[:4]}-{number}" for number in itertools.count(1))
        self.idle_since: float | None = time.monotonic()
        self.live = 0
        self.last_loss = ""
        self.execution = task.execution
        self.stopping = asyncio.Event()

    async def run(self) -> dict[int, BaseException]:
        forget = self._listen_to_signals()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open_slots(self.placement.actors)
        settled = asyncio.create_task(self.queue.join())
        stopped = asyncio.create_task(self.stopping.wait())
        watching = asyncio.create_task(self._watch_cluster())
        try:
            done, _ = await asyncio.wait([settled, stopped, watching, self.broken], return_when=asyncio.FIRST_COMPLETED)
            if stopped in done:
                watching.cancel()
                await self._leave()
                raise Interrupted
            for task in done:
                task.result()  # raises what broke a slot
        finally:
            forget()
            everything: list[asyncio.Task[Any]] = [*self.slots, settled, stopped, watching]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)
            self.broken.cancel()
        return self.failed

    def _open_slots(self, count: int) -> None:
        def tell(slot: asyncio.Task[None]) -> None:
            if slot.cancelled():
                return
            error = slot.exception()
            if error is None and all(other.done() for other in self.slots):
                error = FailedError(f"no actor can start: {self.last_loss}")
            if error is not None and not self.broken.done():
                self.broken.set_exception(error)

        while len(self.slots) < count:
            slot = asyncio.create_task(self._slot())
            slot.add_done_callback(tell)
            self.slots.append(slot)

    async def _slot(self) -> None:
        """Keeps one actor alive after another; ends when ``attempts`` in a row could not start."""
        failed_starts = 0
        while failed_starts < self.resources.attempts:  # one life of an actor a turn
            actor, ready = self._spawn(), False
            try:
                told = await actor.ready.remote()  # may wait for a node, but holds no group meanwhile
                ready, failed_starts, self.idle_since = True, 0, None
                self.live += 1
                self.execution = self.execution or Execution.from_dict(
                    told["execution"]
                )  # the first device's choice holds for all
                self.emit(None, {"event": "ready", **told})
                while True:
                    await self.queue.get()
                    group, attempt = self._take(told["memory"])
                    await self._group(actor, group, attempt, told.get("node"))
            except LOST as error:
                if isinstance(error, RayTaskError) and isinstance(error.cause, UserError):
                    raise error.cause from None  # a setting that this machine cannot meet: no new actor will help
                failed_starts += not ready
                self.last_loss = reason(error, self.resources.stall_s)
                self.emit(None, {"event": "lost", "why": self.last_loss})
                await asyncio.sleep(RESPAWN_S)
            finally:
                self.actors.discard(actor)
                self.live -= ready
                if not self.live:
                    self.idle_since = time.monotonic()
                ray.kill(actor)  # also fences one that hangs or is cut off

    async def _group(self, actor: Any, group: int, attempt: int, node: str | None) -> None:
        """One attempt at a group, on a node. Raises one of LOST where the actor is gone; the group is then queued again."""
        last: dict[str, Any] = {}
        try:
            assert self.execution is not None  # the actor was ready
            call = actor.condense.options(name=self._named(group))
            async for event in _follow(call.remote(group, self.execution), self.resources.stall_s):
                last = {**event, "node": node}
                if event["event"] == "execution":
                    self.execution = Execution.from_dict(event["execution"])
                self.emit(group, last)
            if last.get("event") not in ("done", "stopped"):
                raise FailedError(f"group {group}: its events ended with {last}, not with a finished shard")
        except RayTaskError as error:
            if isinstance(error.cause, DeviceError):
                self._again(group, attempt, error.cause)
                raise error.cause from None
            if isinstance(error.cause, FailedError):  # the storage: the actor is well, the group goes on later
                self._again(group, attempt, error.cause)
                return
            # The person's or our own mistake: trying again cannot help.
            cause = (
                error.cause if isinstance(error.cause, UserError) else FailedError(f"group {group}: {reason(error, 0)}")
            )
            self._fail(group, cause)
        except FailedError as error:
            self._fail(group, error)
        except LOST as error:
            self._again(group, attempt, error)
            raise
        else:
            self.unfinished -= 1
        finally:
            self.queue.task_done()

    def _put(self, group: int, attempt: int) -> None:
        self.waiting.append((group, attempt))
        self.queue.put_nowait(None)

    def _take(self, memory: float) -> tuple[int, int]:
        """The group, with its attempt, that suits an actor's memory (bytes, 0 for no bound)."""
        sizes = [len(self.task.groups[group]) for group, _ in self.waiting]
        return self.waiting.pop(chosen(sizes, room(self.task.config, memory)))

    def _again(self, group: int, attempt: int, error: BaseException) -> None:
        """Queues a group once more whose actor, or whose storage, was lost; gives it up after its last attempt."""
        why = reason(error, self.resources.stall_s)
        self.emit(group, {"event": "lost", "why": why})
        if self.stopping.is_set():
            return  # the next call takes it up
        if attempt < self.resources.attempts:
            self._put(group, attempt + 1)
            return
        lost = "broke off" if isinstance(error, FailedError) else "lost its actor"
        self._fail(group, FailedError(f"group {group}: {lost} {attempt} times, the last time: {why}"))

    def _fail(self, group: int, error: BaseException) -> None:
        self.failed[group] = error
        self.unfinished -= 1
        self.emit(group, {"event": "failed", "why": first_line(error)})

    def _named(self, group: int) -> str:
        """How the dashboard calls the work on a group: its number and its labels."""
        first, *others = self.task.groups[group]
        return f"group {group} ({first}-{others[-1]})" if others else f"group {group} ({first})"

    def _spawn(self) -> Any:
        options = {
            "name": next(self.names),
            "num_cpus": self.placement.cpus_per_actor,
            "num_gpus": self.placement.gpus_per_actor,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2,
            "scheduling_strategy": "SPREAD",
            "runtime_env": session.worker_environment(),
        }
        actor = ray.remote(CondenseActor).options(**options).remote(self.task)
        self.actors.add(actor)
        return actor

    async def _leave(self) -> None:
        self.emit(None, {"event": "leaving"})
        # Nothing new is begun: what is queued is taken out before the actors end what they have.
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()
        for actor in list(self.actors):
            actor.stop.remote()
        await asyncio.wait([asyncio.create_task(self.queue.join())], timeout=LEAVE_S)

    async def _watch_cluster(self) -> None:
        """Says what is waited for, and gives nodes that come later their share of what is left."""
        while True:
            await asyncio.sleep(WATCH_S)
            self.emit(None, {"event": "tick"})
            if self.idle_since is not None and time.monotonic() - self.idle_since >= SAY_WAITING_S:
                starting = await asyncio.to_thread(nodes.starting, list(self.actors))
                self.emit(None, {"event": "waiting", "starting": starting})
                self.idle_since = time.monotonic()
            if self.capacity is not None:
                try:
                    held = await asyncio.to_thread(self.capacity)
                except (RayError, RuntimeError, FailedError):
                    continue  # the cluster's state cannot be read now; it is asked again
                self._open_slots(min(held, self.unfinished))

    def _listen_to_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = asyncio.get_running_loop()
        held = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in held}
        for number in held:
            loop.add_signal_handler(number, self.stopping.set)

        def forget() -> None:
            for number in held:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

        return forget


async def _follow(stream: Any, stall_s: float) -> AsyncIterator[dict[str, Any]]:
    """The values of an actor's stream. TimeoutError when it falls silent: a hung GPU never dies by itself."""
    while True:
        try:
            value = await asyncio.wait_for(anext(stream), stall_s)
        except StopAsyncIteration:
            return
        yield await value
