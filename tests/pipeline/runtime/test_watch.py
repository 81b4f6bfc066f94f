"""The watch over actors, by looks at a cluster of the test's own. No Ray; ``test_task_pool`` hangs real processes."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.runtime import watch
from pipeline.runtime.watch import Process, Watch

Look = Callable[[Watch, dict[str, int]], None]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes of the processes that were killed; each actor has a node of its own, of its name."""
    nodes: list[str] = []
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(watch, "kill", lambda process: nodes.append(process.node))
    return nodes


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Makes a watch look after 10 s, at actors with those counts of beats."""

    def at(watching: Watch, counts: dict[str, int]) -> None:
        alive = {name: Process(node=name, pid=7) for name in counts}
        monkeypatch.setattr(watch, "_actors", lambda state: alive if state == "ALIVE" else {})
        heard = {name: f"w:{count}" for name, count in counts.items()}
        monkeypatch.setattr(watching, "heartbeat", SimpleNamespace(counts=lambda: heard))
        watching._look(10.0)

    return at


def actor(name: str) -> Any:
    return SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: name))


def test_an_actor_that_stops_to_advance_is_killed_and_named(killed: list[str], look: Look) -> None:
    watching = Watch(30.0)
    for step in range(1, 5):
        look(watching, {"a": step, "b": 1})
    assert killed == ["b"]
    assert (watching.silence_of("a"), watching.silence_of("b")) == ("", "silent for 30 s")


def test_those_that_wait_for_each_other_are_silent_only_together(killed: list[str], look: Look) -> None:
    watching = Watch(30.0, as_one=True)
    for step in range(1, 8):
        look(watching, {"slow": step, "waits": 1})
    assert killed == []
    for _ in range(3):
        look(watching, {"slow": 7, "waits": 1})
    assert sorted(killed) == ["slow", "waits"]


def test_one_that_cannot_be_killed_is_given_up(killed: list[str], look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KILL_S", 0.0)
    given_up: list[Any] = []
    monkeypatch.setattr("ray.kill", given_up.append)
    watching, hangs = Watch(30.0), actor("a")
    watching.expect(hangs)
    for _ in range(4):
        look(watching, {"a": 1})
    assert (killed, given_up) == (["a"], [])
    look(watching, {"a": 1})
    assert (killed, given_up) == (["a", "a"], [hangs])


def test_a_message_left_behind_does_not_make_an_idle_actor_one_at_work(killed: list[str], look: Look) -> None:
    watching, idle = Watch(30.0), actor("a")
    watching.expect_only([])
    watching.expect(idle)
    look(watching, {"a": 1})
    watching.release(idle)
    for _ in range(8):
        look(watching, {"a": 1})
    assert killed == []
