"""Rough estimates: how fast the machine is, and what commands say from it."""

import pytest

from m3d.config import Encoder
from pipeline.config.run_config import Resources
from pipeline.errors import FailedError
from pipeline.observability.progress import about
from pipeline.runtime import speed
from pipeline.runtime.placement import Node
from pipeline.runtime.speed import Speed, cluster_speed, measured_flops, time_of

ENCODER, SHAPE = Encoder(name="convnet2", width=8), (1, 8)


@pytest.fixture(autouse=True)
def _forget() -> None:
    cluster_speed.cache_clear()


def nodes_of(monkeypatch: pytest.MonkeyPatch, *nodes: Node, autoscales: bool = False) -> None:
    monkeypatch.setattr(speed.nodes, "nodes", lambda: list(nodes))
    monkeypatch.setattr(speed.nodes, "autoscales", lambda: autoscales)


def node(cpus: float, gpus: float = 0) -> Node:
    return Node(cpus=cpus, gpus=gpus, memory=1e9, gpu_memory=0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (100, "2 min"),
        (12 * 60, "12 min"),
        (2.5 * 3600, "2.5 h"),
        (30 * 3600, "30 h"),
        (6 * 86400, "6 days"),
    ],
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_passes_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMED_S", 0.05)
    assert 1e5 < measured_flops(ENCODER, 1, 8) < 1e14


def test_a_short_run_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cluster_speed", lambda *_: pytest.fail("was timed"))
    assert time_of(1e9, ENCODER, SHAPE, Resources()) == (0.1, "less than a minute")


def test_devices_of_all_nodes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "result", lambda *_: 1.25e10)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    nodes_of(monkeypatch, node(4), node(8))
    assert cluster_speed(ENCODER, *SHAPE, Resources()) == Speed(flops=1.5e11, devices=12, device="CPUs")
    seconds, words = time_of(6e14, ENCODER, SHAPE, Resources())
    assert (seconds, words) == (4000, "roughly 67 min on 12 CPUs")
    cluster_speed.cache_clear()
    monkeypatch.setattr(speed, "result", lambda *_: 1e11)
    nodes_of(monkeypatch, node(4, 2), node(4, 1))
    assert cluster_speed(ENCODER, *SHAPE, Resources()) == Speed(flops=3e11, devices=3, device="GPUs")


@pytest.mark.parametrize(("gpus_per_actor", "gpus"), [(None, 1.0), (0.25, 0.25), (2.0, 1.0)])
def test_a_task_takes_no_more_than_an_actor(
    monkeypatch: pytest.MonkeyPatch, gpus_per_actor: float | None, gpus: float
) -> None:
    taken = []
    monkeypatch.setattr(speed, "result", lambda _what, _call, slots, _resources: taken.append(slots) or 1e11)
    resources = Resources(address="10.0.0.1:6379", gpus_per_actor=gpus_per_actor)
    nodes_of(monkeypatch, node(8, 4))
    cluster_speed(ENCODER, *SHAPE, resources)
    cluster_speed.cache_clear()
    nodes_of(monkeypatch, node(8))
    cluster_speed(ENCODER, *SHAPE, resources)
    assert [(slots.cpus, slots.gpus) for slots in taken] == [(1, gpus), (1, 0.0)]


def test_nobody_waits_for_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise FailedError("lost")

    monkeypatch.setattr(speed, "result", fail)
    for nodes, autoscales in (((node(0),), False), ((node(4),), True), ((node(4), node(4)), False)):
        cluster_speed.cache_clear()
        nodes_of(monkeypatch, *nodes, autoscales=autoscales)
        assert time_of(1e15, ENCODER, SHAPE, Resources()) == (None, "an unknown time")
