"""Processes that make calls: how they start, and those that wait for the next pool of this driver.

A process spends seconds to import torch before its first call, so one that is idle when its pool ends is kept. It holds its
CPUs and GPUs meanwhile. Whoever starts other actors ends the idle processes first.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.runtime import session
from pipeline.runtime.heartbeat import Heartbeat

Call = Callable[[], Any]
"""A call of a function with all its arguments, such as a ``partial``. It travels to a process."""


class TaskActor:
    """Makes one call after another. Ray runs it on the main thread of its process."""

    def ready(self) -> None:
        """Returns once the process has started."""

    def run(self, call: Call, heartbeat: Heartbeat) -> Any:
        """Returns the value of the call. The heartbeat is that of the pool that makes it."""
        with heartbeat.beating():
            return call()


def _connection() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What two processes share if one can stand in for the other."""

    cpus: float
    gpus: float
    spread: bool
    """Whether processes are spread over the nodes rather than packed."""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: session.worker_environment())
    """Ray's runtime environment."""
    connection: tuple[str, str] = field(default_factory=_connection)
    """The driver's connection to Ray: an actor is known to one connection alone."""


_idle: list[tuple[Kind, Any]] = []


def start(kind: Kind) -> Any:
    """Returns an actor whose process starts as soon as a node has a place for it."""
    options = {
        "num_cpus": kind.cpus,
        "num_gpus": kind.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD" if kind.spread else "DEFAULT",
        "runtime_env": kind.environment,
    }
    return ray.remote(TaskActor).options(**options).remote()


def keep(kind: Kind, actor: Any) -> None:
    """Keeps an actor that has nothing to do."""
    _idle.append((kind, actor))


def take(kind: Kind, most: int) -> list[Any]:
    """Returns at most that many idle actors of a kind, and ends those of other kinds, whose share may be needed.

    Any of them may have died since it was kept.
    """
    fitting = [actor for other, actor in _idle if other == kind]
    others = [(other, actor) for other, actor in _idle if other != kind]
    _idle[:] = [(kind, actor) for actor in fitting[most:]]
    _end(others)
    return fitting[:most]


def end_idle() -> None:
    """Ends all idle processes, so that what they hold is free."""
    idle = list(_idle)
    _idle.clear()
    _end(idle)


def _end(idle: list[tuple[Kind, Any]]) -> None:
    if not idle or not ray.is_initialized():
        return
    connection = _connection()
    for kind, actor in idle:
        if kind.connection == connection:
            with contextlib.suppress(RayError):
                ray.kill(actor)
