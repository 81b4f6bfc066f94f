"""Heartbeats of the work in an actor: they reach the driver's ``Watch`` through Ray's key-value store.

The loops of the work call ``m3d.pulse.beat``. This module counts the calls, and a thread stores the count every few
seconds while it rises. A process that is stopped, hangs in a kernel or waits without end leaves the count as it is.
"""

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

from m3d import pulse

NAMESPACE = b"m3d-heartbeat"
LEAVES_S = 10.0
"""Seconds to wait for the last message of a piece of work."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How workers are heard by one Watch. It travels to them."""

    watch: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Random name of the Watch."""
    every_s: float = 5.0
    """Seconds between two messages."""

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Reports this actor as at work within the block."""
        count, over = _Count(), threading.Event()
        key = f"{self.watch}/{ray.get_runtime_context().get_actor_id()}"
        thread = threading.Thread(target=_report, args=(key, count, over, self.every_s), name="heartbeat", daemon=True)
        thread.start()
        try:
            with pulse.listening(count.add):
                yield
        finally:
            over.set()
            thread.join(LEAVES_S)

    def counts(self) -> dict[str, str]:
        """The last message of every actor at work, by its id. Called by the driver."""
        prefix = f"{self.watch}/"
        keys = [key.decode() for key in _internal_kv_list(prefix, namespace=NAMESPACE)]
        values = {key.removeprefix(prefix): _internal_kv_get(key, namespace=NAMESPACE) for key in keys}
        return {actor: value.decode() for actor, value in values.items() if value is not None}

    def forget(self) -> None:
        """Removes all messages."""
        _internal_kv_del(f"{self.watch}/", del_by_prefix=True, namespace=NAMESPACE)


class _Count:
    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        self.value += 1


def _report(key: str, count: _Count, over: threading.Event, every_s: float) -> None:
    """Stores the count whenever it has changed, and removes the entry at the end."""
    work, stored = uuid.uuid4().hex[:8], -1  # the next piece of work of this actor counts from 0 as well
    while True:
        # A store that does not answer now is asked again: the work does not depend on it.
        with contextlib.suppress(Exception):
            if count.value != stored:
                value = count.value
                _internal_kv_put(key, f"{work}:{value}", namespace=NAMESPACE)
                stored = value
        if over.wait(every_s):
            break
    with contextlib.suppress(Exception):
        _internal_kv_del(key, namespace=NAMESPACE)
