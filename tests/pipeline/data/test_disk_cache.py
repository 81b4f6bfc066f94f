"""Copies of class shards on the local disk: only of the classes that are used, within a budget, and never trusted blindly."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data import disk_cache
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError


@pytest.fixture
def shared(folder: Path, bucket: str, tmp_path: Path) -> tuple[str, Data]:
    """Class shards of three classes in a bucket, and settings that put copies below the test's folder."""
    data = Data(source="image_folder", path=str(folder), image_size=12, disk_cache=str(tmp_path / "copies"))
    plan = plan_shards(data, f"{bucket}/cache")
    make_shards(plan, range(3))
    finish(plan)
    return plan.folder, data


def copies(data: Data) -> set[str]:
    """Names of the copies."""
    return {path.stem for path in disk_cache.folder_of(data).glob("*")}


def test_only_used_classes_are_copied_and_mapped(shared: tuple[str, Data]) -> None:
    dataset = PreparedDataset(*shared)
    images = dataset.train(1)
    assert images.shape == (12, 3, 12, 12)
    checksum = dataset.classes[1]["train"]["sha256"]
    assert copies(shared[1]) == {checksum}
    assert isinstance(disk_cache.open_shard(f"{shared[0]}/train-00001.arrow", checksum, shared[1]), pa.MemoryMappedFile)


def test_a_copy_is_used_again(shared: tuple[str, Data]) -> None:
    first = PreparedDataset(*shared).train(1)
    storage.remove(f"{shared[0]}/train-00001.arrow")
    storage.write_bytes(
        f"{shared[0]}/train-00001.arrow", bytes(os.path.getsize(next(Path(shared[1].disk_cache or "").glob("*"))))
    )
    assert torch.equal(PreparedDataset(*shared).train(1), first)


def test_the_least_recently_used_copies_are_removed_when_the_budget_is_exhausted(shared: tuple[str, Data]) -> None:
    folder, data = shared
    size = storage.size_of(f"{folder}/train-00000.arrow")
    small = replace(data, disk_cache_gib=2.5 * size / 2**30)
    dataset = PreparedDataset(folder, small)
    for age, label in ((30, 0), (20, 1), (10, 2)):
        dataset.train(label)
        copy = disk_cache.folder_of(small) / f"{dataset.classes[label]['train']['sha256']}.arrow"
        then = copy.stat().st_mtime - age
        os.utime(copy, (then, then))
    assert copies(small) == {dataset.classes[label]["train"]["sha256"] for label in (1, 2)}


@pytest.mark.parametrize("why", ["no budget", "no space", "no folder"])
def test_without_space_there_are_no_copies(
    shared: tuple[str, Data], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, data = shared
    if why == "no budget":
        data = replace(data, disk_cache_gib=0.0)
    if why == "no space":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    if why == "no folder":
        (tmp_path / "copies").write_text("a file")
    assert PreparedDataset(folder, data).train(0).shape == (12, 3, 12, 12)
    assert why == "no folder" or copies(data) == set()


def test_a_damaged_copy_is_fetched_again(shared: tuple[str, Data]) -> None:
    first = PreparedDataset(*shared).train(0).clone()
    (copy,) = Path(shared[1].disk_cache or "").glob("*.arrow")
    copy.write_bytes(bytes(copy.stat().st_size))
    assert torch.equal(PreparedDataset(*shared).train(0), first)


def test_a_damaged_shard_is_refused(shared: tuple[str, Data]) -> None:
    path = f"{shared[0]}/train-00000.arrow"
    storage.write_bytes(path, storage.read_bytes(path)[:-8] + bytes(8))
    with pytest.raises(UserError, match="its checksum is not the manifest's"):
        PreparedDataset(*shared).train(0)


def test_parts_are_the_same_images(shared: tuple[str, Data]) -> None:
    data = replace(shared[1], validation_fraction=0.25)
    dataset = PreparedDataset(shared[0], data)
    parts = dataset.train_parts(2)
    assert len(parts) == 9
    assert torch.equal(parts.take(torch.arange(9)), dataset.train(2))
    assert dataset.train_bytes([0, 2]) == 2 * 12 * 3 * 12 * 12


def test_copies_are_not_put_into_a_folder_of_somebody_else(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"m3d-class-shards-{os.getuid()}").symlink_to(tmp_path / "theirs")
    storage.write_bytes(f"{bucket}/shard", b"content")
    assert (
        disk_cache.open_shard(f"{bucket}/shard", storage.sha256(b"content"), Data()).read() == b"content"
    )  # without a copy
    assert list((tmp_path / "theirs").iterdir()) == []
    with pytest.raises(UserError, match=r"a copy does not fit in .*m3d-class-shards.* \(is a link or no folder\)"):
        disk_cache.open_shard(f"{bucket}/shard", storage.sha256(b"content"), Data(), must_map=True)
