"""Full and read-only disks: real file systems of a few hundred kilobytes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.condense.worker import GroupWorker
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import Lease
from tests.pipeline.support.runs import EXECUTION, prepared, small_config, task_of

CPU = torch.device("cpu")


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, timeout=30).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)):
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def shard(out: Path) -> bytes:
    return (out / "checkpoints" / "group-00000.shard.arrow").read_bytes()


def test_a_full_disk_is_reported_and_nothing_is_lost(small_disk: Path, tmp_path: Path) -> None:
    config = small_config("resources.checkpoint_every=5")
    dataset = prepared(config, tmp_path)
    list(GroupWorker(task_of(config, tmp_path / "undisturbed", dataset), CPU).condense(0, EXECUTION))
    task = task_of(config, small_disk / "run", dataset)
    worker = GroupWorker(task, CPU)
    stream = worker.condense(0, EXECUTION)
    next(stream)
    filler = small_disk / "filler"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], capture_output=True, timeout=30
    )  # until it is full
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free some space"):
        list(stream)
    assert not [path for path in (small_disk / "run").rglob("*") if path.is_file()]  # nothing half-written
    filler.unlink()
    list(GroupWorker(task, CPU).condense(0, EXECUTION))
    assert shard(small_disk / "run") == shard(tmp_path / "undisturbed")


def test_a_read_only_disk_is_reported(small_disk: Path) -> None:
    assert mount("-o", "remount,ro", str(small_disk))
    with (
        pytest.raises(UserError, match=r"cannot be written \(Read-only file system\)"),
        Lease(RunFolder.at(small_disk / "run")),
    ):
        pass
