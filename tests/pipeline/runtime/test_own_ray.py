"""The watch over the processes of a Ray of one's own, on processes that only sleep. ``tests/faults`` kills real ones."""

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


def test_the_end_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.runtime.own_ray import _end; print('before'); _end('raylet')"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == "before\n"
    assert done.stderr.splitlines() == [
        "failed: the raylet of this run's own Ray has ended (killed, or out of memory); repeat the command to resume"
    ]
