"""The pool of processes: values, errors, lost and silent processes, and the bound on their attempts."""

import copy
import os
import pickle
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from m3d.pulse import beat
from pipeline.config.run_config import Resources
from pipeline.errors import FailedError, UserError
from pipeline.runtime import session, task_pool, task_processes, watch
from pipeline.runtime.task_pool import Slots, TaskPool, _Worker, result, results
from pipeline.runtime.task_processes import Call, TaskActor

pytestmark = pytest.mark.usefixtures("ray_cluster")
ONE, TWO = Slots(cpus=0.5), Slots(count=2, cpus=0.5)


@pytest.fixture(autouse=True)
def _no_idle_processes(ray_cluster: None) -> None:
    """Every test starts its own."""
    task_processes.end_idle()


def first_time(marker: Path) -> bool:
    """Whether this is the first call with that file."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def square(number: int) -> int:
    return number * number


def own_pid() -> int:
    return os.getpid()


def stopped(marker: Path) -> str:
    """Stops this process the first time, in the middle of its work."""
    slow(0.5)
    if first_time(marker):
        os.kill(os.getpid(), signal.SIGSTOP)
    return "done"


def hung(marker: Path) -> str:
    """Waits without end the first time, as a process does whose GPU hangs."""
    slow(0.5)
    if first_time(marker):
        time.sleep(1000)
    return "done"


def hangs() -> None:
    slow(0.5)
    time.sleep(1000)


def slow(seconds: float) -> str:
    """Works for long, but advances."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.02)
        beat()
    return "done"


def dies(marker: Path | None = None) -> str:
    if marker is None or first_time(marker):
        os._exit(1)
    return "done"


def refuses() -> None:
    raise UserError("no such setting")


def breaks() -> None:
    raise KeyError("x")


def settings(stall_s: float = 900.0, attempts: int = 3) -> Resources:
    return Resources(stall_s=stall_s, attempts=attempts)


def all_of(calls: list[Call], slots: Slots, resources: Resources) -> tuple[dict[int, object], list[str]]:
    """Values by index, and the notes."""
    notes: list[str] = []
    return dict(results("evaluate", calls, slots, resources, note=notes.append)), notes


def test_values_of_more_calls_than_processes() -> None:
    calls = [partial(square, number) for number in range(7)]
    assert all_of(calls, TWO, settings()) == ({number: number**2 for number in range(7)}, [])


def test_a_process_makes_one_call_after_another_and_serves_the_next_round() -> None:
    with TaskPool("plan", ONE, settings()) as pool:
        first = {pid for _, pid in pool.results([own_pid] * 3)}
        assert {pid for _, pid in pool.results([own_pid] * 2)} == first
        assert len(first) == 1
        assert pool.result(own_pid) in first


def test_idle_processes_serve_the_next_pool_of_equal_slots() -> None:
    calls = [partial(slow, 0.5), own_pid]
    first = {value for _, value in results("evaluate", calls, TWO, settings())}
    pids = {value for _, value in results("prepare", [own_pid] * 8, TWO, settings())}
    assert pids & first
    assert result("prepare", own_pid, ONE, settings()) in pids
    other = result("plan", own_pid, replace(ONE, cpus=2), settings())  # needs all that idle processes hold
    assert other not in pids
    assert result("plan", own_pid, ONE, settings()) not in pids


def test_idle_processes_that_died_or_are_ended_are_replaced() -> None:
    pid = result("evaluate", own_pid, ONE, settings(attempts=1))
    os.kill(pid, signal.SIGKILL)
    after = result("evaluate", own_pid, ONE, settings(attempts=1))
    task_processes.end_idle()
    assert len({pid, after, result("evaluate", own_pid, ONE, settings(attempts=1))}) == 3


def test_no_process_is_kept_after_an_error() -> None:
    pids = []
    with pytest.raises(UserError):  # noqa: PT012 (what was yielded before counts)
        for _, value in results("evaluate", [own_pid, refuses], ONE, settings()):
            pids.append(value)
    assert result("evaluate", own_pid, ONE, settings()) not in pids


def test_errors_of_calls_are_not_repeated() -> None:
    with pytest.raises(UserError, match=r"^no such setting$"):
        result("evaluate", refuses, ONE, settings())
    with pytest.raises(FailedError, match=r"^evaluate: a task failed: KeyError"):
        result("evaluate", breaks, ONE, settings())


def test_running_calls_end_before_an_error_is_raised() -> None:
    seen = []
    with pytest.raises(UserError, match="no such setting"):  # noqa: PT012 (what was yielded before counts)
        for index, value in results("evaluate", [partial(slow, 3), refuses, partial(square, 3)], TWO, settings()):
            seen.append((index, value))
    assert seen == [(0, "done")]


def test_lost_and_silent_processes_are_replaced_and_slow_ones_are_not(tmp_path: Path) -> None:
    works = [partial(dies, tmp_path / "a"), partial(stopped, tmp_path / "b"), partial(hung, tmp_path / "c")]
    values, notes = all_of([*works, partial(slow, 4), partial(square, 2)], TWO, settings(stall_s=1.5))
    assert values == {**dict.fromkeys(range(4), "done"), 4: 4}
    silent = "evaluate: a worker was lost (silent for 1.5 s); its work is started again"
    assert sorted(notes)[1:] == [silent, silent]
    assert sorted(notes)[0].startswith("evaluate: a worker was lost (ActorDiedError")


def test_a_call_that_always_kills_its_process_is_given_up() -> None:
    with pytest.raises(FailedError, match=r"^evaluate: a worker was lost 2 times, at last: ActorDiedError") as caught:
        all_of([dies], ONE, settings(attempts=2))
    assert "\n" not in str(caught.value)


def test_a_call_that_always_hangs_is_given_up() -> None:
    with pytest.raises(FailedError) as caught:
        all_of([hangs], ONE, settings(stall_s=0.5, attempts=1))
    assert str(caught.value) == (
        "evaluate: a worker was lost once, at last: silent for 0.5 s; run the same command again"
    )


class StopsWhenItStarts(TaskActor):
    """Its process is stopped before it is ready, the first time."""

    def __init__(self) -> None:
        if first_time(Path(os.environ["TEST_MARKER"])):
            os.kill(os.getpid(), signal.SIGSTOP)


class NeverStarts(TaskActor):
    """Its process is always stopped before it is ready."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.fixture
def short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few seconds for the start of a process."""
    monkeypatch.setattr(watch, "START_S", 5.0)


@pytest.mark.long
@pytest.mark.usefixtures("short_start")
def test_a_process_that_hangs_before_it_is_ready_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "worker_environment", lambda: {"env_vars": {"TEST_MARKER": f"{tmp_path}/a"}})
    monkeypatch.setattr(task_processes, "TaskActor", StopsWhenItStarts)
    values, _ = all_of([partial(square, 3)], ONE, settings(stall_s=1.0))
    assert values == {0: 9}
    assert (tmp_path / "a").exists()


@pytest.mark.long
@pytest.mark.usefixtures("short_start")
def test_processes_that_never_start_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_processes, "TaskActor", NeverStarts)
    with pytest.raises(FailedError, match=r"^evaluate: no worker can start; it was lost 2 times, at last: silent for"):
        all_of([partial(square, 3)], ONE, settings(stall_s=1.0, attempts=2))


def test_waiting_for_a_place_is_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "START_S", 0.2)
    with watch.Watch(0.2) as watching:
        actor: Any = ray.remote(TaskActor).options(num_cpus=50).remote()
        watching.expect(actor)
        ready, _ = ray.wait([actor.ready.remote()], timeout=2)
        assert (ready, watching.silence_of(watch.id_of(actor))) == ([], "")
        ray.kill(actor)


def test_a_pool_without_a_place_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_pool, "NOTE_S", 0.5)
    notes: list[str] = []

    def tick() -> None:
        if len(notes) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError), TaskPool("evaluate", Slots(cpus=50), settings(), note=notes.append) as pool:
        list(pool.results([own_pid], on_tick=tick))
    assert notes == ["evaluate: workers wait for 50 CPUs each; the cluster has 2 of 2 CPUs free"] * 2


def test_a_pool_is_given_up_only_if_no_process_starts() -> None:
    """As on a node that breaks every process at once, beside one that is slow to start them."""
    notes: list[str] = []
    pool = TaskPool("evaluate", Slots(count=4), settings(attempts=2), note=notes.append)
    pool._workers = [_Worker(actor=None, reference=object()) for _ in range(4)]
    for worker in pool._workers[:3]:
        pool._workers.remove(worker)
        pool._failed_start(RayError(), "it broke")
    assert notes[1:] == [
        "evaluate: a worker could not start (it broke); continuing with 2 at a time",
        "evaluate: a worker could not start (it broke); continuing with 1 at a time",
    ]
    pool._workers.clear()
    with pytest.raises(FailedError, match="no worker can start"):
        pool._failed_start(RayError(), "it broke")


def test_a_watch_may_be_stored_with_what_has_it() -> None:
    with watch.Watch(5.0) as watching:
        assert copy.deepcopy([watching])[0] is watching
        assert pickle.loads(pickle.dumps(watching)).stall_s == 5.0
