"""The base of events: the fields of a log line."""

import json
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from pipeline.observability import events
from pipeline.observability.events import UNLOGGED, Event, log_line


@dataclass(frozen=True, kw_only=True)
class Moved(Event):
    kind: ClassVar[str] = "moved"
    step: int
    place: str | None
    samples: tuple[int, ...] = field(default=(), metadata=UNLOGGED)
    retries: int = 0
    node: str | None = None


def test_fields_are_logged_in_their_order() -> None:
    moved = Moved(step=3, place="a", samples=(1, 2), retries=2, node="n")
    assert list(moved.logged().items()) == [("step", 3), ("place", "a"), ("retries", 2), ("node", "n")]


def test_only_optional_fields_are_left_out() -> None:
    assert Moved(step=0, place=None).logged() == {"step": 0, "place": None}


def test_a_log_line_begins_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.time, "time", lambda: 1795803378.7364)
    line = log_line(event="moved", **Moved(step=1, place=None).logged())
    assert line == '{"time": 1795803378.736, "event": "moved", "step": 1, "place": null}'
    assert json.loads(line)["step"] == 1
