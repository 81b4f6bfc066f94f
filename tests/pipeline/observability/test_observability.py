"""What a run shows of itself: metrics, curves, the log of an actor, what it waits for."""

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray

from pipeline.condense import actor as condense_actor
from pipeline.condense.manifest import new_record
from pipeline.condense.monitor import CondenseMonitor
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import prometheus
from pipeline.observability.progress import Display
from pipeline.observability.prometheus import NAMES, RunMetrics
from pipeline.observability.tensorboard_writer import Scalars
from pipeline.runtime import nodes
from pipeline.runtime.placement import Placement
from tests.pipeline.support.runs import placement_of, prepared, small_config

PROGRESS = {
    "event": "progress",
    "iteration": 20,
    "losses": [(10, [4.0, 6.0], 100.0), (20, [1.0, 2.0], 200.0)],
    "checkpoint_age_s": 3.5,
}


class Kept:
    """Stands for a gauge and for a counter."""

    held: ClassVar[dict[tuple[str, ...], float]] = {}

    def __init__(self, name: str, text: str, tags: tuple[str, ...]) -> None:
        assert text == NAMES[name]
        self.name, self.tags = name, tags

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tags)
        self.held[(self.name, *tags.values())] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.set(self.held.get((self.name, *tags.values()), 0) + value, tags)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], float]:
    monkeypatch.setattr(prometheus, "Gauge", Kept)
    monkeypatch.setattr(prometheus, "Counter", Kept)
    monkeypatch.setattr(Kept, "held", {})
    return Kept.held


def test_events_become_metrics(kept: dict[tuple[str, ...], float]) -> None:
    one = RunMetrics("demo", groups=4, done=1)
    one.event(2, PROGRESS)
    one.rate(7.5)
    assert kept == {
        ("m3d_groups", "demo"): 4,
        ("m3d_groups_done", "demo"): 1,
        ("m3d_loss", "demo", "2"): 1.5,
        ("m3d_images_per_second", "demo", "2"): 200.0,
        ("m3d_checkpoint_age_seconds", "demo", "2"): 3.5,
        ("m3d_iterations_per_second", "demo"): 7.5,
    }
    before = dict(kept)
    kept.clear()
    one.again()
    assert kept == pytest.approx(before, abs=1.0)  # the age of a checkpoint has grown
    one.event(2, {"event": "lost", "why": "gone"})
    assert kept[("m3d_images_per_second", "demo", "2")] == 0
    one.event(2, {"event": "done", "iteration": 60})
    assert kept[("m3d_retries", "demo")] == 1
    assert kept[("m3d_groups_done", "demo")] == 2
    assert kept[("m3d_checkpoint_age_seconds", "demo", "2")] == 0
    assert {key[0] for key in kept} == set(NAMES)


def test_the_age_of_a_checkpoint_grows_while_nothing_is_heard(
    kept: dict[tuple[str, ...], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("pipeline.observability.prometheus.time.monotonic", lambda: now[0])
    metrics = RunMetrics("demo", 1, 0)
    metrics.event(2, {"event": "progress", "iteration": 3, "losses": [], "checkpoint_age_s": 3.5})
    now[0] += 60
    metrics.again()
    assert kept[("m3d_checkpoint_age_seconds", "demo", "2")] == 63.5
    metrics.event(2, {"event": "done"})
    now[0] += 60
    metrics.again()
    assert kept[("m3d_checkpoint_age_seconds", "demo", "2")] == 0


def test_curves_can_be_read_back(tmp_path: Path) -> None:
    scalars = Scalars(str(tmp_path))
    for step in (10, 20):
        scalars.add("loss/group-00000", 1 / step, step)
    scalars.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert points(path) == [("loss/group-00000", 10, 0.1), ("loss/group-00000", 20, 0.05)]


def points(path: Path) -> list[tuple[str, int, float]]:
    """Of an event file: records of a length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    data, found = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, round(value.simple_value, 6)) for value in event.summary.value]
        data = data[16 + length :]
    return found


def test_curves_that_cannot_be_written_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file in their place")
    scalars = Scalars(str(tmp_path))
    scalars.add("loss", 1.0, 1)
    scalars.close()


def test_a_store_has_no_curves() -> None:
    scalars = Scalars("memory://runs/a")
    scalars.add("loss", 1.0, 1)
    scalars.close()


def test_an_actor_logs_json_with_run_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    log = condense_actor.RunLog("demo-1a2b3c4d")
    log.event(2, PROGRESS)
    log.event(2, {"event": "done", "iteration": 60})
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["run"], first["group"], first["event"], first["loss"]) == ("demo-1a2b3c4d", 2, "progress", 1.5)
    assert "losses" not in first
    assert (second["event"], second["iteration"]) == ("done", 60)


@pytest.mark.parametrize(
    ("cpus", "gpus", "done", "told"),
    [
        (1, 1, 0, "2 groups wait for 1 CPU and 1 GPU each; the cluster has 0 of 4 CPUs and 0 of 4 GPUs free"),
        (2, 0, 1, "1 group waits for 2 CPUs each; the cluster has 0 of 4 CPUs free"),
    ],
)
def test_what_is_waited_for_is_said(
    tmp_path: Path,
    kept: dict[tuple[str, ...], float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cpus: float,
    gpus: float,
    done: int,
    told: str,
) -> None:
    monkeypatch.setattr("pipeline.runtime.nodes.free", lambda name: (0.0, 4.0))
    watch = _watch(tmp_path, cpus, gpus, done)
    watch(None, {"event": "waiting", "starting": 0})
    assert told in capsys.readouterr().out


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_that_starts_waits_for_nothing(
    tmp_path: Path, kept: dict[tuple[str, ...], float], capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow:
        def __init__(self) -> None:
            time.sleep(600)

    actor_of: Any = ray.remote(Slow)
    first, second = (actor_of.options(num_cpus=2).remote() for _ in range(2))
    ends = time.monotonic() + 60
    while not (found := nodes.starting([first, second])) and time.monotonic() < ends:
        time.sleep(0.1)
    assert found == 1  # the other one has no place beside it
    for actor in (first, second):
        ray.kill(actor)
    _watch(tmp_path, 1, 0, 0)(None, {"event": "waiting", "starting": found})
    assert "1 actor is starting; it takes longer where their nodes are busy" in capsys.readouterr().out


def _watch(tmp_path: Path, cpus: float, gpus: float, done: int) -> CondenseMonitor:
    config = small_config()
    groups = placement_of(config).groups
    placement = Placement(actors=2, cpus_per_actor=cpus, gpus_per_actor=gpus, threads=1, groups=groups)
    record: Any = new_record(config, prepared(config, tmp_path), placement)
    todo = list(range(done, len(groups)))
    return CondenseMonitor(Display("condense", 80), placement, todo, 40, RunFolder.at(tmp_path / "out"), record)
