"""The watch over the processes of a Ray of one's own, on processes that only sleep. ``tests/faults`` kills real ones."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from pipeline.runtime import own_ray

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
Watched = dict[str, psutil.Process]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Two processes that sleep, while this process is connected to Ray."""
    monkeypatch.setattr(own_ray, "EVERY_S", 0.02)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    started = {name: subprocess.Popen(SLEEP) for name in ("raylet", "GCS")}
    yield {name: psutil.Process(process.pid) for name, process in started.items()}
    for process in started.values():
        process.kill()
        process.wait(timeout=20)


def begun(watched: Watched, over: threading.Event) -> tuple[threading.Thread, list[str]]:
    """A watch that has begun, and the names that it ends with."""
    ended: list[str] = []
    thread = threading.Thread(target=own_ray._watch, args=(watched, over, ended.append), daemon=True)
    thread.start()
    return thread, ended


@pytest.mark.parametrize("name", ["raylet", "GCS"])
def test_the_first_process_that_dies_is_named(watched: Watched, name: str) -> None:
    thread, ended = begun(watched, threading.Event())
    thread.join(0.2)
    assert thread.is_alive()
    assert ended == []
    watched[name].kill()  # it stays a zombie: nobody waits for it
    thread.join(20)
    assert not thread.is_alive()
    assert ended == [name]


def test_the_end_of_this_process_ends_the_watch(watched: Watched) -> None:
    over = threading.Event()
    thread, ended = begun(watched, over)
    over.set()
    thread.join(20)
    watched["raylet"].kill()
    assert not thread.is_alive()
    assert ended == []


def test_after_a_disconnection_nothing_is_missed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    watched["raylet"].kill()
    thread, ended = begun(watched, threading.Event())
    thread.join(20)
    assert not thread.is_alive()
    assert ended == []


def test_an_interrupted_process_may_save_its_work(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to its group has ended Ray's processes, too."""
    left = [30.0]
    monkeypatch.setattr(own_ray.interruption, "seconds_left", lambda: left[0])
    watched["raylet"].kill()
    thread, ended = begun(watched, threading.Event())
    thread.join(0.3)
    assert thread.is_alive()
    assert ended == []
    left[0] = 0.0
    thread.join(20)
    assert ended == ["raylet"]


FAILED = "failed: the raylet of this run's own Ray has ended (killed, or out of memory); repeat the command to resume"


@pytest.mark.parametrize(
    ("before", "code", "line"),
    [("", 1, FAILED), ("own_ray.interruption.begin(0); ", 130, "interrupted; repeat the command to resume")],
)
def test_the_end_is_one_line(before: str, code: int, line: str) -> None:
    script = f"from pipeline.runtime import own_ray; {before}print('before'); own_ray._end('raylet')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout == "before\n"
    assert done.stderr.splitlines() == [line]


def test_a_closed_pipe_does_not_hide_the_end() -> None:
    script = "from pipeline.runtime import own_ray; print('x'); own_ray._end('raylet')"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()) == (1, [FAILED])
