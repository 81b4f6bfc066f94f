"""The driver, with real actors that really die."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from m3d.backend.execution import Execution
from pipeline.condense.actor import CondenseActor
from pipeline.condense.driver import drive
from pipeline.condense.group_store import GroupStore
from pipeline.condense.task import GroupTask
from pipeline.config.run_config import Resources, RunConfig
from pipeline.errors import DeviceError, FailedError, Interrupted, UserError
from pipeline.runtime.tasks import reason
from tests.pipeline.support.runs import placement_of, prepared, small_config, task_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recorder:
    """Keeps all events and may act on them."""

    def __init__(self) -> None:
        self.events: list[tuple[int | None, dict[str, Any]]] = []
        self.pids: list[int] = []

    def __call__(self, group: int | None, event: dict[str, Any]) -> None:
        self.events.append((group, event))
        if event["event"] == "ready":
            self.pids.append(event["pid"])

    def kinds(self, group: int | None = None) -> list[str]:
        return [event["event"] for of, event in self.events if of == group]


class Killer(Recorder):
    """Kills every actor that has come past an iteration, so many times."""

    def __init__(self, times: int, after: int) -> None:
        super().__init__()
        self.left, self.after, self.reached = times, after, []

    def __call__(self, group: int | None, event: dict[str, Any]) -> None:
        super().__call__(group, event)
        if (
            group is not None
            and event.get("iteration", -1) >= self.after
            and event["event"] == "progress"
            and self.left
        ):
            self.left -= 1
            self.reached.append(event["iteration"])
            os.kill(self.pids[-1], signal.SIGKILL)


def shards(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "checkpoints").glob("*.shard.arrow"))]


def run(
    task: GroupTask, config: RunConfig, emit: Recorder, actors: int = 1, **resources: Any
) -> dict[int, BaseException]:
    return drive(task, [0, 1], placement_of(config, actors), Resources(**resources), emit)


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
            restarts = [
                event["iteration"] for group, event in emit.events if group == 0 and event["event"] == "progress"
            ]
            assert any(0 < at <= emit.reached[0] + 200 for at in restarts[restarts.index(emit.reached[0]) + 1 :])


def test_three_deaths_fail_the_group_and_spare_the_others(tmp_path: Path) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))

    class Poison(Recorder):
        def __call__(self, group: int | None, event: dict[str, Any]) -> None:
            super().__call__(group, event)
            if group == 0 and event["event"] == "progress":
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


def test_a_silent_actor_counts_as_dead(tmp_path: Path) -> None:
    config = small_config("resources.checkpoint_every_s=0.05", iterations=300)
    cache = prepared(config, tmp_path)
    frozen: list[int] = []

    class Freezer(Recorder):
        def __call__(self, group: int | None, event: dict[str, Any]) -> None:
            super().__call__(group, event)
            if group == 0 and not frozen:
                frozen.append(self.pids[-1])
                os.kill(self.pids[-1], signal.SIGSTOP)

    emit = Freezer()
    assert run(task_of(config, tmp_path, cache), config, emit, stall_s=3.0) == {}
    assert ("lost", "silent for 3 s") in [(event["event"], event.get("why")) for _, event in emit.events]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_saves_checkpoints_and_the_next_call_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    config = small_config("resources.checkpoint_every_s=1000", iterations=300)
    cache = prepared(config, tmp_path)
    task = task_of(config, tmp_path / "parts", cache)

    class Interrupter(Recorder):
        def __call__(self, group: int | None, event: dict[str, Any]) -> None:
            super().__call__(group, event)
            if event.get("iteration", 0) > 0 and "leaving" not in self.kinds():
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
    resumed = next(event["iteration"] for group, event in again.events if group == 0)
    assert resumed == saved.iteration
    assert run(task_of(config, tmp_path / "whole", cache), config, Recorder()) == {}
    assert shards(tmp_path / "parts") == shards(tmp_path / "whole")


def test_a_device_that_gives_out_is_left_and_the_group_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    flag = tmp_path / "gave-out"

    class Failing(CondenseActor):
        def condense(self, group: int, execution: Execution) -> Iterator[dict[str, Any]]:
            if not flag.exists():
                flag.touch()
                raise DeviceError("OutOfMemoryError: CUDA out of memory")
            yield from super().condense(group, execution)

    monkeypatch.setattr("pipeline.condense.driver.CondenseActor", Failing)
    emit = Recorder()
    assert run(task, config, emit) == {}
    told = "DeviceError: OutOfMemoryError: CUDA out of memory"
    assert ("lost", told) in [(event["event"], event.get("why")) for _, event in emit.events]
    assert emit.kinds().count("ready") == 2
    assert len(shards(tmp_path)) == 2


class Unreachable(CondenseActor):
    """Its storage cannot be reached the first times that it is asked for group 0."""

    left = 2

    def condense(self, group: int, execution: Execution) -> Iterator[dict[str, Any]]:
        if group == 0 and self.left:
            self.left -= 1
            raise FailedError("s3://bucket/run: the storage cannot be reached")
        yield from super().condense(group, execution)


def test_a_group_whose_storage_is_out_goes_on_later_on_the_same_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    monkeypatch.setattr("pipeline.condense.driver.CondenseActor", Unreachable)
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
    assert drive(task, [0, 1], placement_of(config, 1), Resources(), emit, capacity=lambda: 5) == {}
    assert emit.kinds().count("ready") == 2  # no more than there are groups


def test_actors_that_cannot_start_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    task = task_of(config, tmp_path, prepared(config, tmp_path))

    class Broken:
        def __init__(self, task: GroupTask) -> None:
            raise ValueError("bad start")

        def ready(self) -> dict[str, Any]:
            return {}

        def stop(self) -> None: ...

        def condense(self, group: int, execution: Execution) -> None: ...

    monkeypatch.setattr("pipeline.condense.driver.CondenseActor", Broken)
    with pytest.raises(FailedError, match=r"no actor can start: .*bad start"):
        run(task, config, Recorder())


@pytest.mark.parametrize(
    ("text", "told"),
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
def test_reasons_name_the_cause_of_a_death(text: str, told: str) -> None:
    error = RayActorError()
    error.error_msg = text
    assert reason(error, 1).endswith(told)
