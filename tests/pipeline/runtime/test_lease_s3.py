"""One driver per run in a bucket, decided by conditional writes."""

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import Lease, host_name, started_at
from tests.pipeline.runtime.test_lease import HOLD


def write(out: str, **changes: object) -> None:
    process = {"pid": os.getpid(), "started": started_at(os.getpid())}
    lease = {"host": "elsewhere", **process, "token": "t", "heartbeat": time.time(), "beats": 0}
    storage.write_json(f"{out}/lease.json", {**lease, **changes})


def entry(out: str) -> dict[str, Any]:
    return storage.read_json(f"{out}/lease.json")


def test_it_ends_with_its_driver(bucket: str) -> None:
    with Lease(RunFolder.at(f"{bucket}/run")):
        assert entry(f"{bucket}/run")["pid"] == os.getpid()
    assert storage.files_below(f"{bucket}/run") == []


def test_a_second_driver_is_refused_and_takes_over_at_once_when_the_first_is_killed(bucket: str) -> None:
    out = f"{bucket}/run"
    first = subprocess.Popen([sys.executable, "-c", HOLD, out], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {first.pid} on "), Lease(RunFolder.at(out)):
            pass
        first.kill()
        first.wait(timeout=30)
        began = time.monotonic()
        with Lease(RunFolder.at(out)):
            assert entry(out)["pid"] == os.getpid()
        assert time.monotonic() - began < 15  # at once, not after the heartbeat's 30 seconds
    finally:
        first.kill()
        assert first.stdout is not None
        first.stdout.close()
        first.wait(timeout=30)


def test_another_host_whose_heartbeat_stops_is_taken_over(bucket: str) -> None:
    write(f"{bucket}/run")
    with Lease(RunFolder.at(f"{bucket}/run"), stale_s=1.0, beat_s=0.1):
        assert entry(f"{bucket}/run")["token"] != "t"


def test_another_host_whose_heartbeat_moves_is_refused(bucket: str) -> None:
    write(f"{bucket}/run")
    beat = threading.Timer(0.5, lambda: write(f"{bucket}/run", beats=1))
    beat.start()
    try:
        with pytest.raises(UserError, match="on elsewhere"), Lease(RunFolder.at(f"{bucket}/run"), stale_s=20.0):
            pass
    finally:
        beat.join(timeout=10)


@pytest.mark.parametrize("before", ["nothing", "a dead driver", "a damaged lease"])
def test_of_many_drivers_one_wins(bucket: str, before: str) -> None:
    out = f"{bucket}/run"
    if before == "a dead driver":
        write(out, host=host_name(), started="1")
    if before == "a damaged lease":
        storage.write_bytes(f"{out}/lease.json", b'{"host"')
    barrier, won, refused = threading.Barrier(6), [], []
    done = threading.Event()

    def drive() -> None:
        lease = Lease(RunFolder.at(out))
        barrier.wait(timeout=30)
        try:
            with lease:
                won.append(lease.entry.token)
                done.wait(timeout=60)
        except UserError as error:
            refused.append(str(error))
        if len(refused) == 5:
            done.set()

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert (len(won), len(refused)) == (1, 5)
    assert all("is in use by process" in message for message in refused)


def test_the_heartbeat_moves_and_gives_way_to_another_token(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    out = f"{bucket}/run"
    with Lease(RunFolder.at(out), beat_s=0.05):
        ends = time.monotonic() + 20
        while entry(out)["beats"] < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)
        write(out)
        while not signals:
            assert time.monotonic() < ends
            time.sleep(0.02)
    assert json.loads(storage.read_bytes(f"{out}/lease.json"))["token"] == "t"
