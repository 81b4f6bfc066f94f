"""What is shown, logged and exported while groups are condensed."""

import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pipeline.condense import sinks
from pipeline.condense.actor import ActorLog
from pipeline.condense.events import (
    Compiled,
    Done,
    ExecutionChanged,
    Failed,
    Leaving,
    LossSample,
    Lost,
    Progress,
    Ready,
    Stopped,
    Tick,
    Waiting,
)
from pipeline.condense.manifest import new_record
from pipeline.condense.monitor import CondenseMonitor
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import events as base
from pipeline.observability.events import Event
from pipeline.observability.progress import Display
from pipeline.runtime import nodes
from pipeline.runtime.placement import Placement
from tests.pipeline.observability.test_tensorboard_writer import points
from tests.pipeline.support.runs import EXECUTION, placement_of, prepared, small_config, task_of

Values = dict[tuple[str, ...], float]

PROGRESS = Progress(
    iteration=20,
    losses=(
        LossSample(iteration=10, losses=(4.0, 6.0), images_per_s=100.0),
        LossSample(iteration=20, losses=(1.0, 2.0), images_per_s=200.0),
    ),
    checkpoint_age_s=3.5,
)
HALVED = replace(EXECUTION, real_block=32, note="out of memory: smaller")
READY = Ready(
    node="n1",
    pid=12,
    device="CPU",
    gpus=[],
    visible=None,
    memory=0.0,
    execution=EXECUTION,
    note="",
    room="real images: fit",
)
EVENTS: Sequence[tuple[int | None, Event]] = (
    (None, READY),
    (0, Progress(iteration=0, node="n1")),
    (0, Compiled(seconds=3.5, node="n1")),
    (0, replace(PROGRESS, node="n1")),
    (0, ExecutionChanged(execution=HALVED, why=HALVED.note, node="n1")),
    (0, Lost(why="gone")),
    (None, Lost(why="gone")),
    (0, Progress(iteration=10, node="n2")),
    (0, Done(iteration=60, retries=2, node="n2")),
    (1, Progress(iteration=0, node="n2")),
    (1, Stopped(iteration=1, node="n2")),
    (1, Failed(why="bad")),
    (None, Waiting(starting=1)),
    (None, Leaving()),
    (None, Tick()),
)
BLOCKS = '"execution": {"precision": "float32", "compiled": false, "real_block": %d, "synthetic_block": 64}'
FIRST, SECOND = BLOCKS % 64, BLOCKS % 32
HEAD = '{"time": 1795803378.736, "event": '
EVENTS_JSONL = [
    '"ready", "run": "demo", "group": null, "node": "n1", "pid": 12, "device": "CPU", "gpus": [], "visible": null, '
    f'"memory": 0.0, {FIRST}, "note": "", "room": "real images: fit"}}',
    '"begin", "run": "demo", "group": 0, "iteration": 0, "node": "n1"}',
    '"compiled", "run": "demo", "group": 0, "seconds": 3.5, "node": "n1"}',
    f'"execution", "run": "demo", "group": 0, {SECOND}, "why": "out of memory: smaller", "node": "n1"}}',
    '"lost", "run": "demo", "group": 0, "why": "gone"}',
    '"lost", "run": "demo", "group": null, "why": "gone"}',
    '"begin", "run": "demo", "group": 0, "iteration": 10, "node": "n2"}',
    '"done", "run": "demo", "group": 0, "iteration": 60, "retries": 2, "node": "n2"}',
    '"begin", "run": "demo", "group": 1, "iteration": 0, "node": "n2"}',
    '"stopped", "run": "demo", "group": 1, "iteration": 1, "node": "n2"}',
    '"failed", "run": "demo", "group": 1, "why": "bad"}',
    '"waiting", "run": "demo", "group": null, "starting": 1}',
    '"leaving", "run": "demo", "group": null}',
]
METRICS_JSONL = [
    '{"time": 1795803378.736, "seconds": 0.0, "group": 0, "iteration": 10, "loss": {"0": 4.0, "1": 6.0}, "images_per_s": 100.0}',
    '{"time": 1795803378.736, "seconds": 0.0, "group": 0, "iteration": 20, "loss": {"0": 1.0, "1": 2.0}, "images_per_s": 200.0}',
]
STDERR = [
    '"event": "progress", "iteration": 0}',
    '"event": "compiled", "seconds": 3.5}',
    '"event": "progress", "iteration": 20, "checkpoint_age_s": 3.5, "loss": 1.5, "images_per_s": 200.0}',
    f'"event": "execution", {SECOND}, "why": "out of memory: smaller"}}',
    '"event": "done", "iteration": 60, "retries": 2}',
    '"event": "done", "iteration": 60}',
    '"event": "stopped", "iteration": 1}',
]


class RecordingDisplay(Display):
    """Stores what is shown."""

    def __init__(self) -> None:
        super().__init__("condense", 120)
        self.notes: list[str] = []
        self.updates: list[tuple[int, str]] = []

    def update(self, done: int, status: str) -> None:
        self.updates.append((done, status))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event comes at the same moment."""
    clock = SimpleNamespace(time=lambda: 1795803378.7364, monotonic=lambda: 50.0)
    monkeypatch.setattr(base, "time", clock)
    monkeypatch.setattr(sinks, "time", clock)


def monitor(
    tmp_path: Path, display: Display | None = None, *, cpus: float = 1, gpus: float = 0, done: int = 0
) -> CondenseMonitor:
    """A monitor of two groups of two classes, ``done`` of which are finished."""
    config = small_config(iterations=60)
    groups = placement_of(config).groups
    placement = Placement(actors=2, cpus_per_actor=cpus, gpus_per_actor=gpus, threads=1, groups=groups)
    dataset = prepared(config, tmp_path)
    task = replace(task_of(config, tmp_path / "out", dataset), run="demo")
    todo = range(done, len(groups))
    return CondenseMonitor(
        display or Display("condense", 120), task, placement, new_record(config, dataset, placement), todo
    )


@pytest.mark.usefixtures("stopped_clock")
def test_the_losses_of_the_start_are_logged_beside_those_of_the_images(tmp_path: Path, gauges: Values) -> None:
    sample = LossSample(iteration=10, losses=(4.0, 6.0), start_losses=(8.0, 6.0), images_per_s=1.0)
    with monitor(tmp_path) as watch:
        watch(0, Progress(iteration=10, losses=(sample,)))
    line = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert line["start_loss"] == {"0": 8.0, "1": 6.0}


@pytest.mark.usefixtures("stopped_clock")
def test_logs_have_the_same_lines_as_ever(tmp_path: Path, gauges: Values) -> None:
    with monitor(tmp_path) as watch:
        for group, event in EVENTS:
            watch(group, event)
    out = tmp_path / "out"
    assert (out / "events.jsonl").read_text().splitlines() == [HEAD + line for line in EVENTS_JSONL]
    assert (out / "metrics.jsonl").read_text().splitlines() == METRICS_JSONL
    resolved = json.loads((out / "config.json").read_text())["resolved"]
    assert resolved["device"] == "CPU"
    assert resolved["execution"] == HALVED.as_dict()
    (path,) = (out / "tensorboard").iterdir()
    assert points(path) == [
        ("loss/group-00000", 10, 5.0),
        ("images_per_second/group-00000", 10, 100.0),
        ("loss/group-00000", 20, 1.5),
        ("images_per_second/group-00000", 20, 200.0),
    ]


@pytest.mark.usefixtures("stopped_clock")
def test_trackers_receive_what_tensorboard_has(tmp_path: Path, gauges: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[tuple[object, ...]] = []
    monkeypatch.setattr(sinks, "track", lambda *point: tracked.append(point))
    with monitor(tmp_path) as watch:
        watch(1, PROGRESS)
        watch(None, Tick())
    assert tracked == [
        ("loss/group-00001", 5.0, 10, "iteration"),
        ("images_per_second/group-00001", 100.0, 10, "iteration"),
        ("loss/group-00001", 1.5, 20, "iteration"),
        ("images_per_second/group-00001", 200.0, 20, "iteration"),
    ]


@pytest.mark.usefixtures("stopped_clock")
def test_the_display_shows_progress_and_notes(tmp_path: Path, gauges: Values) -> None:
    display = RecordingDisplay()
    with monitor(tmp_path, display) as watch:
        for group, event in EVENTS:
            watch(group, event)
    assert display.notes == [
        "real images: fit",
        "out of memory: smaller",
        "an actor was lost (gone); a new one takes its place",
        "group 1 failed: bad",
        "1 actor is starting; it takes longer where their nodes are busy",
        "stopping: saving checkpoints",
    ]
    assert [done for done, _ in display.updates] == [0, 0, 20, 20, 10, 60, 60, 61, 61]
    assert display.updates[0][1] == "0/2 groups, 0.0 it/s"
    # The clock stands still: 20 iterations were lost with the first actor, 50 and 1 were made after it.
    assert display.updates[-1][1] == "1/2 groups, 71000000000.0 it/s, loss 1.5000"


@pytest.mark.usefixtures("stopped_clock")
def test_an_actor_logs_the_same_lines_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    log = ActorLog("demo")
    for event in (
        Progress(iteration=0),
        Compiled(seconds=3.5),
        PROGRESS,
        ExecutionChanged(execution=HALVED, why=HALVED.note),
        Done(iteration=60, retries=2),
        Done(iteration=60),
        Stopped(iteration=1),
    ):
        log.write(2, event)
    head = '{"time": 1795803378.736, "run": "demo", "group": 2, '
    assert capsys.readouterr().err.splitlines() == [head + line for line in STDERR]


def test_events_become_metrics(tmp_path: Path, gauges: Values) -> None:
    watch = monitor(tmp_path, done=1)
    watch(1, Progress(iteration=0))
    watch(1, PROGRESS)
    assert gauges[("m3d_groups", "demo")] == 2
    assert gauges[("m3d_groups_done", "demo")] == 1
    assert gauges[("m3d_loss", "demo", "1")] == 1.5
    assert gauges[("m3d_images_per_second", "demo", "1")] == 200.0
    assert gauges[("m3d_checkpoint_age_seconds", "demo", "1")] == 3.5
    watch(1, Lost(why="gone"))
    assert gauges[("m3d_images_per_second", "demo", "1")] == 0
    assert gauges[("m3d_retries", "demo")] == 1
    watch(None, Lost(why="gone"))
    assert gauges[("m3d_retries", "demo")] == 1
    watch(1, Done(iteration=60))
    assert gauges[("m3d_groups_done", "demo")] == 2
    assert gauges[("m3d_checkpoint_age_seconds", "demo", "1")] == 0
    gauges.clear()
    watch(None, Tick())
    assert gauges[("m3d_iterations_per_second", "demo")] > 0
    assert gauges[("m3d_groups", "demo")] == 2


def test_events_are_small_when_they_are_sent() -> None:
    assert pickle.loads(pickle.dumps(PROGRESS)) == PROGRESS
    assert len(pickle.dumps(PROGRESS)) < 400


def test_a_decided_execution_is_kept(tmp_path: Path, gauges: Values) -> None:
    display = RecordingDisplay()
    watch = monitor(tmp_path, display)
    watch(None, replace(READY, note="no compiler here"))
    watch(None, replace(READY, device="another", execution=HALVED, note="ignored"))
    assert display.notes == ["real images: fit", "no compiler here"]
    record = RunFolder.at(tmp_path / "out").read_record()
    assert record is not None
    assert record["resolved"]["device"] == "CPU"
    assert record["resolved"]["execution"] == EXECUTION.as_dict()


@pytest.mark.parametrize(
    ("cpus", "gpus", "done", "note"),
    [
        (1, 1, 0, "2 groups wait for 1 CPU and 1 GPU each; the cluster has 0 of 4 CPUs and 0 of 4 GPUs free"),
        (2, 0, 1, "1 group waits for 2 CPUs each; the cluster has 0 of 4 CPUs free"),
    ],
)
def test_a_note_says_what_the_run_waits_for(
    tmp_path: Path, gauges: Values, monkeypatch: pytest.MonkeyPatch, cpus: float, gpus: float, done: int, note: str
) -> None:
    monkeypatch.setattr("pipeline.runtime.nodes.free", lambda name: (0.0, 4.0))
    display = RecordingDisplay()
    monitor(tmp_path, display, cpus=cpus, gpus=gpus, done=done)(None, Waiting(starting=0))
    assert display.notes == [note]


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_that_starts_waits_for_nothing(tmp_path: Path, gauges: Values) -> None:
    class Slow:
        def __init__(self) -> None:
            time.sleep(600)

    actor_of: Any = ray.remote(Slow)
    first, second = (actor_of.options(num_cpus=2).remote() for _ in range(2))
    ends = time.monotonic() + 60
    while not (starting := nodes.starting([first, second])) and time.monotonic() < ends:
        time.sleep(0.1)
    assert starting == 1  # the other one does not fit beside it
    for actor in (first, second):
        ray.kill(actor)
    display = RecordingDisplay()
    monitor(tmp_path, display)(None, Waiting(starting=starting))
    assert display.notes == ["1 actor is starting; it takes longer where their nodes are busy"]
