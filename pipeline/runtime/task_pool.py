"""Work of a stage in a pool of processes: one call after another, each with a bounded silence and number of attempts.

A process is a Ray actor, so that a hung one can be killed without harm to the driver, and so that its start can be told
from waiting for a place on a node. What a call compiled or read is there for the next call in the same process. A pool
that ends leaves its idle processes to the next pool of equal slots.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.config.run_config import Resources
from pipeline.errors import FailedError, UserError
from pipeline.observability.progress import say
from pipeline.runtime import nodes, task_processes
from pipeline.runtime.task_processes import Call, Kind
from pipeline.runtime.tasks import lost, ran_out_of_memory, reason
from pipeline.runtime.watch import Watch, id_of

SETTLE_S = 60.0
"""Seconds that running calls have to end when one of them has failed."""
STARVED_S = 5.0
"""Seconds before a process is replaced that was killed for memory. Others may have returned some of it by then."""
RESPAWN_S = 0.5
"""Seconds before a lost process is replaced. A node that is going down still takes actors for a moment."""

NOTE_S = 60.0
"""Seconds without a started process before the first note about what the pool waits for; the next follow ever later."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Number of processes, and what each takes of the cluster."""

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    spread: bool = False
    """Whether processes are spread over the nodes rather than packed."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    index: int
    call: Call
    number: int = 1
    """1 for the first attempt."""


@dataclass(kw_only=True)
class _Worker:
    """A process of the pool: starting, idle or at work."""

    actor: Any
    reference: Any
    """Of what it does now; None while it is idle."""
    attempt: _Attempt | None = None
    has_started: bool = False
    was_idle: bool = False
    """Whether an earlier pool started it."""


@dataclass(kw_only=True)
class _Round:
    """The calls of one call of ``results``."""

    waiting: deque[_Attempt] = field(default_factory=deque)
    error: UserError | FailedError | None = None
    """The first error; no further call begins after it."""
    ends: float = 0.0
    """When running calls are no longer waited for after an error, on the monotonic clock."""


class TaskPool:
    """Processes that make the calls of a stage, within a ``with`` block."""

    def __init__(self, what: str, slots: Slots, resources: Resources, *, note: Callable[[str], None] = say) -> None:
        """Creates a pool without processes; they start with the first calls.

        Args:
            what: name of the stage in messages.
            slots: number of processes, and what each takes.
            resources: attempts at a call and at starting a process, and the time of silence after which a process
                counts as dead.
            note: prints a line about a lost process.
        """
        self._what, self._slots, self._resources, self._note = what, slots, resources, note
        self._watch = Watch(resources.stall_s)
        self._workers: list[_Worker] = []
        self._limit, self._failed_starts, self._respawn_at = slots.count, 0, 0.0
        self._waiting_since, self._note_s = time.monotonic(), NOTE_S

    def __enter__(self) -> Self:
        self._watch.expect_only([])  # a message that could not be removed does not make an idle process one at work
        self._watch.__enter__()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Keeps idle processes for the next pool, and ends the others. One that hangs while it ends is still watched.

        After an error all processes are ended.
        """
        try:
            for worker in list(self._workers):
                if error is None and worker.has_started and worker.reference is None:
                    self._workers.remove(worker)
                    task_processes.keep(self._kind(), worker.actor)
                else:
                    self._remove(worker)
        finally:
            self._watch.__exit__()

    def result(self, call: Call) -> Any:
        """Returns the value of one call. Raises the same errors as ``results``."""
        return next(iter(self.results([call])))[1]

    def results(
        self, calls: Sequence[Call], *, on_tick: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[int, Any]]:
        """Makes calls and yields (index, value) as they end.

        When a call fails, the running ones are waited for and their values are yielded before the error is raised. The
        others do not begin.

        Args:
            calls: what to call, in the order in which they begin.
            on_tick: called after every second in which no call ended, to refresh a display.

        Raises:
            UserError: a call raised it.
            FailedError: a call raised it or any other error, or its process was lost ``resources.attempts`` times, or
                as many processes in a row could not start.
        """
        attempts = (_Attempt(index=index, call=call) for index, call in enumerate(calls))
        round = _Round(waiting=deque(attempts))
        while (round.waiting and round.error is None) or any(worker.attempt for worker in self._workers):
            if round.error is None:
                self._assign(round)
            elif time.monotonic() > round.ends:
                break
            yielded = False
            for worker in self._ended(round):
                try:
                    value = self._value(worker, round)
                except (UserError, FailedError) as error:
                    round.error, round.ends = round.error or error, round.ends or time.monotonic() + SETTLE_S
                else:
                    if value is not None:
                        yielded = True
                        yield value
            if not yielded:
                self._note_waiting()
                on_tick()
        if round.error is not None:
            raise round.error

    def _assign(self, round: _Round) -> None:
        """Gives idle processes a call each, and starts as many processes as there are calls and slots."""
        for worker in self._workers:
            if worker.reference is None and round.waiting:
                worker.attempt = round.waiting.popleft()
                self._watch.expect(worker.actor)
                run = worker.actor.run.options(name=self._what)
                worker.reference = run.remote(worker.attempt.call, self._watch.heartbeat)
        starting = sum(worker.attempt is None and worker.reference is not None for worker in self._workers)
        missing = min(self._limit - len(self._workers), len(round.waiting) - starting)
        if missing > 0 and time.monotonic() >= self._respawn_at:
            self._start(missing)

    def _start(self, count: int) -> None:
        kind = self._kind()
        idle = task_processes.take(kind, count)
        started = [task_processes.start(kind) for _ in range(count - len(idle))]
        for actor, was_idle in [(actor, True) for actor in idle] + [(actor, False) for actor in started]:
            self._watch.expect(actor)
            self._workers.append(_Worker(actor=actor, reference=actor.ready.remote(), was_idle=was_idle))

    def _kind(self) -> Kind:
        return Kind(cpus=self._slots.cpus, gpus=self._slots.gpus, spread=self._slots.spread)

    def _note_waiting(self) -> None:
        """Says what the pool waits for if no process has started for long."""
        if not self._workers or any(worker.has_started for worker in self._workers):
            self._waiting_since, self._note_s = time.monotonic(), NOTE_S
        elif time.monotonic() - self._waiting_since >= self._note_s:
            self._note_s *= 2
            if nodes.starting([worker.actor for worker in self._workers]):
                self._note(f"{self._what}: workers are starting; it takes longer where their nodes are busy")
            else:
                shortage = nodes.shortage(self._slots.cpus, self._slots.gpus)
                self._note(f"{self._what}: workers wait for {shortage}")

    def _ended(self, round: _Round) -> list[_Worker]:
        """The processes that have started or ended a call, after at most a second."""
        active = {worker.reference: worker for worker in self._workers if worker.reference is not None}
        if round.error is not None:
            active = {reference: worker for reference, worker in active.items() if worker.attempt is not None}
        if not active:
            time.sleep(min(0.1, RESPAWN_S))
            return []
        ready, _ = ray.wait(list(active), timeout=1.0)
        return [active[reference] for reference in ready]

    def _value(self, worker: _Worker, round: _Round) -> tuple[int, Any] | None:
        """Index and value of a call that ended, or None if a process started or was lost.

        Raises:
            UserError, FailedError: the call or the pool failed.
        """
        reference, attempt = worker.reference, worker.attempt
        self._watch.release(worker.actor)
        worker.reference = worker.attempt = None
        try:
            value = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError | FailedError):
                raise error.cause from None
            raise FailedError(f"{self._what}: a task failed: {error.cause!r}; --debug shows where") from error
        except RayError as error:
            self._lost(worker, attempt, error, round)
            return None
        if attempt is None:
            worker.has_started, self._failed_starts = True, 0
            return None
        return attempt.index, value

    def _lost(self, worker: _Worker, attempt: _Attempt | None, error: RayError, round: _Round) -> None:
        """Queues the call of a lost process again. Raises FailedError after the last attempt."""
        why = self._watch.silence_of(id_of(worker.actor)) or reason(error, self._watch.stall_s)
        self._remove(worker)
        if attempt is None and worker.was_idle:
            return  # it ended after the pool that started it; a new one takes its place
        self._respawn_at = time.monotonic() + (STARVED_S if ran_out_of_memory(error) else RESPAWN_S)
        if attempt is None:
            self._failed_start(error, why)
            return
        if attempt.number >= self._resources.attempts:
            raise lost(self._what, error, attempt.number, why)
        round.waiting.appendleft(replace(attempt, number=attempt.number + 1))
        if ran_out_of_memory(error) and self._limit > 1:
            self._limit -= 1
            why += f"; continuing with {self._limit} at a time"
        self._note(f"{self._what}: a worker was lost ({why}); its work is started again")

    def _failed_start(self, error: RayError, why: str) -> None:
        """Counts a process that was lost before it was ready. Raises FailedError if no process can start."""
        self._failed_starts += 1
        if self._failed_starts < self._resources.attempts:
            self._note(f"{self._what}: a worker could not start ({why}); another one is started")
            return
        self._limit = len(self._workers)  # those that start may be on a node that works
        if not self._limit:
            raise lost(self._what, error, self._failed_starts, why, starting=True)
        self._note(f"{self._what}: a worker could not start ({why}); continuing with {self._limit} at a time")

    def _remove(self, worker: _Worker) -> None:
        """Ends a process. Ray itself kills one that does not answer to that within five seconds."""
        self._workers.remove(worker)
        ray.kill(worker.actor)


def results(
    what: str,
    calls: Sequence[Call],
    slots: Slots,
    resources: Resources,
    *,
    on_tick: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = say,
) -> Iterator[tuple[int, Any]]:
    """Makes calls in a pool of their own; arguments and errors as of ``TaskPool``."""
    with TaskPool(what, slots, resources, note=note) as pool:
        yield from pool.results(calls, on_tick=on_tick)


def result(what: str, call: Call, slots: Slots, resources: Resources) -> Any:
    """Returns the value of one call in a pool of its own; arguments and errors as of ``TaskPool``."""
    with TaskPool(what, slots, resources) as pool:
        return pool.result(call)
