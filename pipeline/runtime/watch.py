"""Bounds the silence of this driver's actors: one that is silent for too long is killed.

All work is done in actors, those of Ray Tune and Ray Train included. Whoever started the work notices the death of its
actor and makes another attempt, or gives up. So the Watch only turns silence into death.

An actor is silent while it starts (it has its process, but its constructor has not returned), and while its heartbeat
does not change. An actor that waits for a place on a node is not watched.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.runtime.heartbeat import Heartbeat

START_S = 60.0
"""Least seconds until the first beat of an actor's work: it imports torch meanwhile, however short ``stall_s`` is."""
KILL_S = 30.0
"""Seconds after which a request to kill a process on another node is repeated."""
LEAVES_S = 5.0
"""Seconds to wait for the last look."""
LOOKS = 6
"""Looks at the heartbeats within ``stall_s``."""
MOST_S = 5.0
"""Most seconds between two looks."""
WORKING = "working"
"""What an actor is that has started."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """The process of an actor."""

    node: str
    """Ray's id of its node."""
    pid: int


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """What was last seen of an actor."""

    seen: tuple[object, ...]
    """Whatever changes while it advances."""
    process: Process
    has_beaten: bool
    silent_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """An actor that was given something to do."""

    actor: Any
    number: int
    """Of what it was given, counted over all actors."""


class Watch:
    """Watches the actors of this driver within a ``with`` block, on a thread of its own."""

    def __init__(self, stall_s: float, *, as_one: bool = False) -> None:
        """Prepares a watch; entering the context begins it.

        Args:
            stall_s: seconds of silence after which an actor is killed.
            as_one: the actors wait for each other, so they are silent only when none of them advances.
        """
        self.stall_s, self._as_one = stall_s, as_one
        every_s = min(MOST_S, stall_s / LOOKS)
        self.heartbeat = Heartbeat(every_s=every_s)
        """To be given to the actors."""
        self._every_s = every_s
        self._numbers = itertools.count()
        self._expected: dict[str, _Expected] = {}
        self._only_expected = False
        self._silenced: dict[str, float] = {}
        self._signs: dict[str, _Sign] = {}
        self._asked: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LEAVES_S)  # not longer: the cluster may be gone

    def __reduce__(self) -> tuple[type["Watch"], tuple[float]]:
        """Ray Tune stores its callbacks, which have this object; what is read from there watches nothing."""
        return Watch, (self.stall_s,)

    def __deepcopy__(self, memo: object) -> "Watch":
        return self

    def expect(self, actor: Any) -> None:
        """Watches an actor although it has not reported yet, since it was given something to do."""
        self._expected = {**self._expected, id_of(actor): self._given(actor)}

    def release(self, actor: Any) -> None:
        """The actor has nothing to do any more."""
        self._expected = {name: given for name, given in self._expected.items() if name != id_of(actor)}

    def expect_only(self, actors: list[Any]) -> None:
        """Watches these actors and no others, even if they report: Ray Tune stops a trial in the middle of its work."""
        self._only_expected = True
        before = self._expected
        self._expected = {id_of(actor): before.get(id_of(actor)) or self._given(actor) for actor in actors}

    def _given(self, actor: Any) -> _Expected:
        return _Expected(actor=actor, number=next(self._numbers))

    def silence_of(self, *names: str) -> str:
        """How long one of these actors was silent when it was killed, in words; empty if none of them was killed.

        Args:
            names: Ray's ids of actors.
        """
        return next((f"silent for {self._silenced[name]:g} s" for name in names if name in self._silenced), "")

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(self._every_s):
            # While this process or the cluster's store stood still, nothing could be heard.
            elapsed = min(time.monotonic() - looked, 2 * self._every_s)
            looked = time.monotonic()
            with contextlib.suppress(Exception):  # the cluster's state cannot be read now: the next look tries again
                self._look(elapsed)
        with contextlib.suppress(Exception):
            self.heartbeat.forget()

    def _look(self, elapsed: float) -> None:
        if not ray.is_initialized():
            return
        expected, starting, alive = self._expected, _actors("PENDING_CREATION"), _actors("ALIVE")
        counts = self.heartbeat.counts()
        signs = {
            name: _Sign(seen=("starting", process.pid), process=process, has_beaten=False)
            for name, process in starting.items()
        }
        at_work = expected.keys() if self._only_expected else counts.keys() | expected.keys()
        for name in at_work & alive.keys():
            count = counts.get(name, "0")
            given = expected.get(name)
            seen = (WORKING, given and given.number, count)
            has_beaten = count.rpartition(":")[2] != "0"
            signs[name] = _Sign(seen=seen, process=alive[name], has_beaten=has_beaten)
        self._signs = {name: self._aged(self._signs.get(name), sign, elapsed) for name, sign in signs.items()}
        if self._as_one:
            self._signs |= _as_one({name: sign for name, sign in self._signs.items() if sign.seen[0] == WORKING})
        for name, sign in self._signs.items():
            bound_s = self.stall_s if sign.has_beaten else max(self.stall_s, START_S)
            if sign.silent_s >= bound_s:
                self._silenced.setdefault(name, bound_s)
                self._kill(name, sign.process)

    @staticmethod
    def _aged(before: _Sign | None, sign: _Sign, elapsed: float) -> _Sign:
        if before is None or before.seen != sign.seen:
            return sign
        return replace(sign, silent_s=before.silent_s + elapsed)

    def _kill(self, name: str, process: Process) -> None:
        now, asked, given = time.monotonic(), self._asked.get(name), self._expected.get(name)
        if asked is not None and now - asked < KILL_S:
            return
        self._asked[name] = now
        kill(process)
        if asked is not None and given is not None:
            # Its process cannot be killed now: it waits in its kernel, or its node does not answer. For Ray it is dead
            # from here on, so that whoever waits for its work does not wait without end.
            ray.kill(given.actor)


def _as_one(signs: dict[str, _Sign]) -> dict[str, _Sign]:
    """The signs of actors that wait for each other: each is silent since the last one of them was."""
    silent_s = min((sign.silent_s for sign in signs.values()), default=0.0)
    has_beaten = all(sign.has_beaten for sign in signs.values())
    return {name: replace(sign, silent_s=silent_s, has_beaten=has_beaten) for name, sign in signs.items()}


def id_of(actor: Any) -> str:
    """Ray's id of an actor."""
    return actor._actor_id.hex()


def kill(process: Process) -> None:
    """Kills the process of an actor, which may be stopped or hang."""
    if process.node == ray.get_runtime_context().get_node_id() and kill_local(process.pid):
        return
    # A worker process of that node does it, as it sees the same process ids. It takes no resources.
    strategy = NodeAffinitySchedulingStrategy(process.node, soft=False)
    task = ray.remote(num_cpus=0, num_gpus=0, max_retries=0)(kill_local)
    task.options(name="kill a silent worker", scheduling_strategy=strategy).remote(process.pid)


def kill_local(pid: int) -> bool:
    """Kills a process of this machine, if it is one of Ray's workers."""
    try:
        if not psutil.Process(pid).cmdline()[0].startswith("ray::"):
            return False
        os.kill(pid, signal.SIGKILL)
    except (psutil.Error, OSError, IndexError):
        return False
    return True


def _actors(state_name: str) -> dict[str, Process]:
    """The processes of this driver's actors in a state, by the ids of the actors."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    table: Mapping[str, Any] = state.actor_table(None, job, state_name)
    found = {name: _process(entry) for name, entry in table.items()}
    return {name: process for name, process in found.items() if process is not None}


def _process(entry: Mapping[str, Any]) -> Process | None:
    node, pid = entry.get("Address", {}).get("NodeID", ""), int(entry.get("Pid") or 0)
    return Process(node=node, pid=pid) if node and pid else None
