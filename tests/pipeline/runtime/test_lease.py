"""One driver per run."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import Lease, host_name, started_at

HOLD = """
import sys, time
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import Lease
with Lease(RunFolder.at(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def entry(out: Path) -> dict[str, Any]:
    return json.loads((out / "lease.json").read_text())


def write(out: Path, **changes: object) -> None:
    process = {"pid": os.getpid(), "started": started_at(os.getpid())}
    lease = {"host": "elsewhere", **process, "token": "t", "heartbeat": time.time(), "beats": 0}
    out.mkdir(exist_ok=True)
    (out / "lease.json").write_text(json.dumps({**lease, **changes}))


def test_it_ends_with_its_driver_and_leaves_no_empty_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Lease(RunFolder.at(out)):
        assert entry(out)["pid"] == os.getpid()
    assert not out.exists()


def test_it_keeps_what_the_run_wrote(tmp_path: Path) -> None:
    with Lease(RunFolder.at(tmp_path)):
        (tmp_path / "result").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_it_ends_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lease(RunFolder.at(tmp_path)):
        raise ZeroDivisionError
    with Lease(RunFolder.at(tmp_path)):
        pass


def test_a_second_driver_is_refused_while_the_first_is_alive_and_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"in use by process {first.pid} on ") as refused,
            Lease(RunFolder.at(tmp_path)),
        ):
            pass
        assert len(str(refused.value).splitlines()) == 1
        first.kill()
        first.wait(timeout=30)
        began = time.monotonic()
        with Lease(RunFolder.at(tmp_path)):
            assert entry(tmp_path)["pid"] == os.getpid()
        assert time.monotonic() - began < 10  # at once, not after the heartbeat's 30 seconds
    finally:
        first.kill()
        assert first.stdout is not None
        first.stdout.close()
        first.wait(timeout=30)


def test_a_process_id_that_was_reused_is_no_owner(tmp_path: Path) -> None:
    write(tmp_path, host=host_name(), started="1")
    with Lease(RunFolder.at(tmp_path)):
        assert entry(tmp_path)["token"] != "t"


def test_another_host_whose_heartbeat_stops_is_waited_for_and_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    began = time.monotonic()
    with Lease(RunFolder.at(tmp_path), stale_s=1.0, beat_s=0.1):
        assert entry(tmp_path)["token"] != "t"
    assert time.monotonic() - began > 0.8
    printed = capsys.readouterr().out
    assert "process" in printed
    assert "on elsewhere used this run" in printed
    assert "waiting to see whether it is alive" in printed
    assert "taking over" in printed


def test_another_host_whose_heartbeat_is_old_is_watched_for_three_beats(tmp_path: Path) -> None:
    write(tmp_path, heartbeat=time.time() - 3600)
    began = time.monotonic()
    with Lease(RunFolder.at(tmp_path), stale_s=30.0, beat_s=0.1):
        pass
    assert 0.3 <= time.monotonic() - began < 10


def test_another_host_whose_clock_is_behind_keeps_its_lease(tmp_path: Path) -> None:
    write(tmp_path, heartbeat=time.time() - 3600)
    beat = threading.Timer(0.3, lambda: write(tmp_path, heartbeat=time.time() - 3600, beats=1))
    beat.start()
    try:
        with pytest.raises(UserError, match="on elsewhere"), Lease(RunFolder.at(tmp_path), beat_s=0.5):
            pass
    finally:
        beat.join(timeout=10)


def test_a_zombie_is_no_owner(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    ends = time.monotonic() + 30
    while started_at(child.pid) is not None:  # it ends, but nobody has asked for its exit code
        assert time.monotonic() < ends
        time.sleep(0.02)
    write(tmp_path, host=host_name(), pid=child.pid, started="1")
    with Lease(RunFolder.at(tmp_path)):
        pass
    child.wait(timeout=30)


def test_another_host_whose_heartbeat_moves_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    beat = threading.Timer(0.5, lambda: write(tmp_path, beats=1))
    beat.start()
    try:
        with pytest.raises(UserError, match="on elsewhere"), Lease(RunFolder.at(tmp_path), stale_s=20.0):
            pass
    finally:
        beat.join(timeout=10)


def test_the_heartbeat_moves(tmp_path: Path) -> None:
    with Lease(RunFolder.at(tmp_path), beat_s=0.05):
        ends = time.monotonic() + 20
        while entry(tmp_path)["beats"] < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)


def test_a_damaged_lease_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text('{"host"')
    with Lease(RunFolder.at(tmp_path)):
        pass


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), Lease(RunFolder.at(tmp_path / "file" / "run")):
        pass


def test_a_lease_is_left_behind_by_a_driver_that_died_on_this_machine(tmp_path: Path) -> None:
    lease = Lease(RunFolder.at(tmp_path))
    assert not lease.is_left_behind()
    write(tmp_path)
    assert not lease.is_left_behind()  # of another machine
    write(tmp_path, host=host_name())
    assert not lease.is_left_behind()  # of this process
    write(tmp_path, host=host_name(), started="1")
    assert lease.is_left_behind()


def half_written(out: Path, ages_s: dict[str, float]) -> None:
    """Writes temporary files of unknown processes, with their ages."""
    for name, age_s in ages_s.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - age_s, time.time() - age_s))


def files_of(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_its_end_removes_half_written_files_of_killed_processes(tmp_path: Path) -> None:
    kept = {"mine/.d.tmp": 90.0, "condensed/.e.arrow.0.tmp": 0.0, "class-shards/key/.f.arrow.0.tmp": 3600.0}
    gone = {".a.json.0.tmp": 90.0, "condensed/.b.arrow.0.tmp": 90.0, "class-shards/key/.c.arrow.0.tmp": 90_000.0}
    with Lease(RunFolder.at(tmp_path)):
        half_written(tmp_path, kept | gone)
    assert files_of(tmp_path) == set(kept)


def test_after_the_loss_of_a_lease_nothing_of_the_new_driver_is_removed(tmp_path: Path) -> None:
    with Lease(RunFolder.at(tmp_path)) as lease:
        half_written(tmp_path, {"condensed/.b.arrow.0.tmp": 90.0})
        write(tmp_path)
        lease.lost = True
    assert files_of(tmp_path) == {"condensed/.b.arrow.0.tmp", "lease.json"}


def test_what_must_not_be_removed_does_not_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder of class shards that users share."""

    def refuse(path: Path, age_s: float) -> bool:
        raise PermissionError(path, age_s)

    monkeypatch.setattr("pipeline.storage.objects.is_left_behind", refuse)
    with Lease(RunFolder.at(tmp_path)):
        half_written(tmp_path, {"class-shards/key/.c.arrow.0.tmp": 90_000.0})
    assert files_of(tmp_path) == {"class-shards/key/.c.arrow.0.tmp"}
