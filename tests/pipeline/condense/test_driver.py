"""The driver, with real actors that are really killed."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from m3d.backend.execution import Execution
from pipeline.condense.actor import CondenseActor
from pipeline.condense.driver import drive
from pipeline.condense.events import GroupEvent, Leaving, Lost, Progress, Ready
from pipeline.condense.group_store import GroupStore
from pipeline.condense.task import GroupTask
from pipeline.config.run_config import RunConfig
from pipeline.errors import DeviceError, FailedError, Interrupted, UserError
from pipeline.observability.events import Event
from pipeline.runtime.tasks import reason
from tests.pipeline.support.runs import placement_of, prepared, small_config, task_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recorder:
    """Stores all events. Subclasses act on them."""

    def __init__(self) -> None:
        self.events: list[tuple[int | None, Event]] = []
        self.pids: list[int] = []

    def __call__(self, group: int | None, event: Event) -> None:
        self.events.append((group, event))
        if isinstance(event, Ready):
            self.pids.append(event.pid)

    def kinds(self, group: int | None = None) -> list[str]:
        return [event.kind for of, event in self.events if of == group]

    def losses(self) -> list[str]:
        return [event.why for _, event in self.events if isinstance(event, Lost)]


class Killer(Recorder):
    """Kills the actor that has reached an iteration, a number of times."""

    def __init__(self, times: int, after: int) -> None:
        super().__init__()
        self.left, self.after = times, after
        self.reached: list[int] = []

    def __call__(self, group: int | None, event: Event) -> None:
        super().__call__(group, event)
        if isinstance(event, Progress) and event.iteration >= self.after and self.left:
            self.left -= 1
            self.reached.append(event.iteration)
            os.kill(self.pids[-1], signal.SIGKILL)


def shards(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "checkpoints").glob("*.shard.arrow"))]


def run(
    task: GroupTask, config: RunConfig, emit: Recorder, actors: int = 1, **resources: Any
) -> dict[int, BaseException]:
    settings = replace(task.config, resources=replace(task.config.resources, **resources))
    return drive(replace(task, config=settings), [0, 1], placement_of(config, actors), emit)


def test_two_actors_finish_all_groups(tmp_path: Path) -> None:
    config = small_config()
    emit = Recorder()
    assert run(task_of(config, tmp_path, prepared(config, tmp_path)), config, emit, actors=2) == {}
    assert emit.kinds(0)[-1] == emit.kinds(1)[-1] == "done"
    assert len(shards(tmp_path)) == 2


def test_a_killed_actor_is_replaced_and_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("resources.checkpoint_every_s=0.05", iterations=300)
    cache = prepared(config, tmp_path)
    assert run(task_of(config, tmp_path / "quiet", cache), config, Recorder()) == {}
    # The first progress event comes before the first iteration, later ones a tenth of a second apart.
    for after in (0, 1):
        emit = Killer(times=1, after=after)
        out = tmp_path / f"killed{after}"
        assert run(task_of(config, out, cache), config, emit) == {}
        assert emit.left == 0
        assert "lost" in emit.kinds()
        assert shards(out) == shards(tmp_path / "quiet")
        if after:
            reported = [event.iteration for group, event in emit.events if group == 0 and isinstance(event, Progress)]
            assert any(0 < at <= emit.reached[0] + 200 for at in reported[reported.index(emit.reached[0]) + 1 :])


@pytest.mark.slow
def test_a_group_that_kills_three_actors_fails_and_the_others_finish(tmp_path: Path) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))

    class Poison(Recorder):
        def __call__(self, group: int | None, event: Event) -> None:
            super().__call__(group, event)
            if group == 0 and isinstance(event, Progress):
                os.kill(self.pids[-1], signal.SIGKILL)

    emit = Poison()
    failed = run(task, config, emit, attempts=3)
    assert list(failed) == [0]
    assert isinstance(failed[0], FailedError)
    assert "lost its actor 3 times" in str(failed[0])
    assert emit.kinds(0).count("lost") == 3
    assert GroupStore(task.folder, task.identity).finished(1)
    assert not GroupStore(task.folder, task.identity).finished(0)


def test_a_mistake_is_not_retried(tmp_path: Path) -> None:
    config = small_config()
    cache = prepared(config, tmp_path)
    (Path(cache.folder) / "train-00002.arrow").write_bytes(b"nothing")
    emit = Recorder()
    failed = run(task_of(config, tmp_path, cache), config, emit)
    assert list(failed) == [1]
    assert isinstance(failed[1], UserError)
    assert "train-00002.arrow" in str(failed[1])
    assert emit.kinds().count("ready") == 1


@pytest.mark.slow
def test_a_silent_actor_counts_as_dead(tmp_path: Path) -> None:
    config = small_config("resources.checkpoint_every_s=0.05", iterations=300)
    cache = prepared(config, tmp_path)
    frozen: list[int] = []

    class Freezer(Recorder):
        def __call__(self, group: int | None, event: Event) -> None:
            super().__call__(group, event)
            if group == 0 and not frozen:
                frozen.append(self.pids[-1])
                os.kill(self.pids[-1], signal.SIGSTOP)

    emit = Freezer()
    assert run(task_of(config, tmp_path, cache), config, emit, stall_s=3.0) == {}
    assert "silent for 3 s" in emit.losses()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_saves_checkpoints_and_the_next_call_resumes(tmp_path: Path, number: signal.Signals) -> None:
    config = small_config("resources.checkpoint_every_s=1000", iterations=300)
    cache = prepared(config, tmp_path)
    task = task_of(config, tmp_path / "parts", cache)

    class Interrupter(Recorder):
        def __call__(self, group: int | None, event: Event) -> None:
            super().__call__(group, event)
            if isinstance(event, Progress) and event.iteration > 0 and Leaving.kind not in self.kinds():
                assert threading.current_thread() is threading.main_thread()
                os.kill(os.getpid(), number)

    emit = Interrupter()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        run(task, config, emit)
    assert signal.getsignal(number) is before
    saved = GroupStore(task.folder, task.identity).load_checkpoint(0)
    assert saved is not None
    assert saved.iteration > 0
    again = Recorder()
    assert run(task, config, again) == {}
    resumed = next(event for group, event in again.events if group == 0)
    assert isinstance(resumed, Progress)
    assert resumed.iteration == saved.iteration
    assert run(task_of(config, tmp_path / "uninterrupted", cache), config, Recorder()) == {}
    assert shards(tmp_path / "parts") == shards(tmp_path / "uninterrupted")


def test_a_group_whose_device_fails_resumes_on_another_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    flag = tmp_path / "failed"

    class Failing(CondenseActor):
        def condense(self, group: int, execution: Execution) -> Iterator[GroupEvent]:
            if not flag.exists():
                flag.touch()
                raise DeviceError("OutOfMemoryError: CUDA out of memory")
            yield from super().condense(group, execution)

    monkeypatch.setattr("pipeline.condense.actor_pool.CondenseActor", Failing)
    emit = Recorder()
    assert run(task, config, emit) == {}
    assert "DeviceError: OutOfMemoryError: CUDA out of memory" in emit.losses()
    assert emit.kinds().count("ready") == 2
    assert len(shards(tmp_path)) == 2


class Unreachable(CondenseActor):
    """An actor whose storage cannot be reached at its first attempts at group 0."""

    left = 2

    def condense(self, group: int, execution: Execution) -> Iterator[GroupEvent]:
        if group == 0 and self.left:
            self.left -= 1
            raise FailedError("s3://bucket/run: the storage cannot be reached")
        yield from super().condense(group, execution)


def test_a_group_whose_storage_fails_is_tried_again_on_the_same_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    monkeypatch.setattr("pipeline.condense.actor_pool.CondenseActor", Unreachable)
    emit = Recorder()
    assert run(task, config, emit, attempts=3) == {}
    assert emit.kinds(0).count("lost") == 2
    assert emit.kinds().count("ready") == 1
    assert len(shards(tmp_path)) == 2
    failed = run(task_of(config, tmp_path / "twice", prepared(config, tmp_path)), config, Recorder(), attempts=2)
    assert list(failed) == [0]
    assert "broke off 2 times, the last time: s3://bucket/run: the storage" in str(failed[0])


def test_actors_are_added_when_the_cluster_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.condense.driver.WATCH_S", 0.1)
    config = small_config(iterations=400)
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    emit = Recorder()
    assert drive(task, [0, 1], placement_of(config, 1), emit, capacity=lambda: 5) == {}
    assert emit.kinds().count("ready") == 2  # no more than there are groups


def test_actors_that_cannot_start_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))

    class Broken:
        def __init__(self, task: GroupTask) -> None:
            raise ValueError("bad start")

        def ready(self) -> None: ...

        def stop(self) -> None: ...

        def condense(self, group: int, execution: Execution) -> None: ...

    monkeypatch.setattr("pipeline.condense.actor_pool.CondenseActor", Broken)
    with pytest.raises(FailedError, match=r"no actor can start: .*bad start"):
        run(task, config, Recorder())


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "The actor died unexpectedly.\n pid: 3\nWorker exit detail: connection error code 2. End of file. Some common causes",
            "connection error code 2. End of file",
        ),
        (
            "The actor died because of an error raised in its creation task, ray::A\n  File x\nValueError: bad start",
            "ValueError: bad start",
        ),
        ("The node is gone", "The node is gone"),
    ],
)
def test_reasons_name_the_cause_of_a_death(text: str, cause: str) -> None:
    error = RayActorError()
    error.error_msg = text
    assert reason(error, 1).endswith(cause)
