"""Temporary files: those of processes that ended are removed at once, those of living ones never, unknown ones when old."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.storage.local import temporary_names
from pipeline.storage.local.temporary_names import is_left_behind, temporary_beside

KILLED = """
import os, signal, sys
from pipeline import storage
writer = storage.AtomicWriter(sys.argv[1])
writer.write(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def grow_old(path: Path) -> None:
    """Makes a file a day old."""
    yesterday = time.time() - 90_000
    os.utime(path, (yesterday, yesterday))


def test_a_file_of_a_killed_process_is_removed_at_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "train-00000.arrow")], check=False, timeout=60)
    assert len(os.listdir(tmp_path)) == 1
    storage.sweep(str(tmp_path), 86_400)
    assert os.listdir(tmp_path) == []


def test_a_file_of_a_living_process_stays_however_old(tmp_path: Path) -> None:
    writer = storage.AtomicWriter(str(tmp_path / "a.arrow"))
    grow_old(next(tmp_path.iterdir()))
    storage.sweep(str(tmp_path), 60)
    writer.write(b"complete")
    writer.commit()
    assert os.listdir(tmp_path) == ["a.arrow"]


@pytest.mark.parametrize("name", [".a.json.0123456789abcdef0123456789abcdef.tmp", ".a.other-1-2.0123.tmp", ".x.tmp"])
def test_a_file_of_an_unknown_process_is_removed_when_it_is_old(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    storage.sweep(str(tmp_path), 86_400)
    assert os.listdir(tmp_path) == [name]
    grow_old(tmp_path / name)
    storage.sweep(str(tmp_path), 86_400)
    assert os.listdir(tmp_path) == []


def test_a_number_that_was_given_to_another_process_proves_nothing(tmp_path: Path) -> None:
    path = temporary_beside(tmp_path / "a")
    stranger = path.with_name(path.name.replace(f"-{temporary_names._start_of(os.getpid())}.", "-1."))
    stranger.write_bytes(b"")
    assert not is_left_behind(stranger, 60)
    grow_old(stranger)
    assert is_left_behind(stranger, 60)


def test_without_a_system_that_tells_only_the_age_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_names, "_machine", lambda: "")
    path = temporary_beside(tmp_path / "a")
    path.write_bytes(b"")
    assert not is_left_behind(path, 60)
    grow_old(path)
    assert is_left_behind(path, 60)
