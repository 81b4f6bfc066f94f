"""Drives the condensation of a run: a pool of actors, signals, and nodes that come later.

The driver has the queue of groups, and an actor has one group at a time. A lost actor's group goes back into the queue,
and a new actor resumes it from its checkpoint.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import RayError

from pipeline.condense.actor_pool import ActorPool
from pipeline.condense.events import Emit, Leaving, Tick, Waiting
from pipeline.condense.group_queue import GroupQueue
from pipeline.condense.task import GroupTask
from pipeline.errors import FailedError, Interrupted
from pipeline.observability import interruption
from pipeline.runtime import nodes, task_processes
from pipeline.runtime.placement import Placement
from pipeline.runtime.watch import Watch

LEAVE_S = 20.0
"""Seconds that actors have to save their checkpoints when the run is interrupted."""
CLOSE_S = 5.0
"""Seconds until the command has ended after that."""
WAITING_S = 10.0
"""Seconds without a live actor between two notes about what the run waits for."""
WATCH_S = 2.0
"""Seconds between two looks at the cluster."""

Capacity = Callable[[], int]
"""Number of actors that the cluster can hold now."""


def drive(
    task: GroupTask, todo: Sequence[int], placement: Placement, emit: Emit, *, capacity: Capacity | None = None
) -> dict[int, BaseException]:
    """Condenses groups until each is finished or has failed.

    Args:
        task: what workers need to know, with the attempts at a group and the time of silence after which an actor
            counts as dead.
        todo: numbers of the groups to condense.
        placement: number of actors, and what each takes.
        emit: receives all events, on this thread.
        capacity: asked every few seconds, so that nodes that come later get work. Defaults to a fixed number of actors.

    Returns:
        The groups that failed, with the reason.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the actors have saved their checkpoints.
        UserError: a setting that the machines cannot meet.
        FailedError: no actor can start.
    """
    queue = GroupQueue(task.groups, todo, task.config.resources.attempts)
    task_processes.end_idle()
    with Watch(task.config.resources.stall_s) as watch:
        asyncio.run(_run(task, placement, queue, emit, watch, capacity))
    return queue.failed


async def _run(
    task: GroupTask, placement: Placement, queue: GroupQueue, emit: Emit, watch: Watch, capacity: Capacity | None
) -> None:
    pool, interrupted = ActorPool(task, placement, queue, emit, watch), asyncio.Event()

    def interrupt() -> None:
        interruption.begin(LEAVE_S + CLOSE_S)
        queue.drain()  # at once: a group of an actor that is lost from here on is left to the next call
        interrupted.set()

    restore_signals = _listen_to_signals(interrupt)
    pool.grow(placement.actors)
    settled = asyncio.create_task(pool.settled())
    stopped = asyncio.create_task(interrupted.wait())
    watching = asyncio.create_task(_watch(pool, queue, emit, capacity))
    try:
        ended, _ = await asyncio.wait([settled, stopped, watching, pool.broken], return_when=asyncio.FIRST_COMPLETED)
        if stopped in ended:
            watching.cancel()
            emit(None, Leaving())
            await pool.drain(LEAVE_S)
            raise Interrupted
        for future in ended:
            future.result()  # raises the error of the pool or of the watch
    finally:
        restore_signals()
        waiting: list[asyncio.Task[Any]] = [settled, stopped, watching]
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await pool.close()


async def _watch(pool: ActorPool, queue: GroupQueue, emit: Emit, capacity: Capacity | None) -> None:
    """Reports what the run waits for, and gives nodes that come later a share of the remaining groups."""
    while True:
        await asyncio.sleep(WATCH_S)
        emit(None, Tick())
        if pool.idle_since is not None and time.monotonic() - pool.idle_since >= WAITING_S:
            starting = await asyncio.to_thread(nodes.starting, list(pool.actors))
            if pool.idle_since is not None:  # no actor became ready in the meantime
                emit(None, Waiting(starting=starting))
                pool.idle_since = time.monotonic()
        if capacity is not None:
            try:
                slots = await asyncio.to_thread(capacity)
            except (RayError, RuntimeError, FailedError):
                continue  # the cluster's state cannot be read now; the next round asks again
            pool.grow(min(slots, queue.unfinished))


def _listen_to_signals(interrupt: Callable[[], None]) -> Callable[[], None]:
    """Calls ``interrupt`` at Ctrl-C and SIGTERM, if this is the main thread. Returns what restores the handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, interrupt)

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    return restore
