"""The prepare stage on a cluster: the files it leaves, what it reuses, and how it fails."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.run_config import Data, RunConfig
from pipeline.data.prepare import prepare
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.images import number_of, picture, write_folder

pytestmark = pytest.mark.usefixtures("ray_cluster")


def config_of(folder: Path, **settings: Any) -> RunConfig:
    """A run on a folder of images at their own size."""
    return RunConfig(data=Data(**{"source": "image_folder", "path": str(folder), "image_size": 12, **settings}))


def written(folder: str) -> dict[str, int]:
    """Time at which each file was written."""
    return {name: os.stat(Path(folder, name)).st_mtime_ns for name in sorted(os.listdir(folder))}


def test_shards_are_below_the_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder
    assert Path(shards).parent == tmp_path / "run" / "class-shards"
    files = [
        f"{split}-{label:05d}{end}" for split in ("test", "train") for label in range(3) for end in (".arrow", ".json")
    ]
    assert sorted(os.listdir(shards)) == sorted([*files, "manifest.json"])
    images = PreparedDataset(shards, Data()).train(2)
    expected = np.stack([picture(number_of("train", 2, i)).transpose(2, 0, 1) for i in range(12)])
    np.testing.assert_array_equal(images.numpy(), expected)
    assert "36 train and 12 test images of 3 classes, 3x12x12" in capsys.readouterr().out


def test_the_second_time_nothing_is_decoded(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder
    before = written(first)
    capsys.readouterr()
    assert prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder == first
    assert written(first) == before
    assert "reused from" in capsys.readouterr().out


def test_existing_shards_are_not_written_again(folder: Path, tmp_path: Path) -> None:
    shards = prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder
    before = written(shards)
    for name in ("manifest.json", "train-00001.json"):
        Path(shards, name).unlink()
    assert prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder == shards
    after = written(shards)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"manifest.json"} | {f"{s}-00001{e}" for s in ("train", "test") for e in (".arrow", ".json")}


def test_data_cache_is_shared_between_runs(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, cache=str(tmp_path / "shared"))
    first = prepare(config, RunFolder.at(tmp_path / "run1")).folder
    before = written(first)
    assert Path(first).parent == tmp_path / "shared"
    assert prepare(config, RunFolder.at(tmp_path / "run2")).folder == first
    assert written(first) == before
    assert not (tmp_path / "run1").exists()


def test_a_bad_image_is_a_user_error_and_leaves_complete_files(folder: Path, tmp_path: Path) -> None:
    bad = folder / "train" / "cat" / "004.png"
    bad.write_bytes(bad.read_bytes()[:-50])
    with pytest.raises(UserError) as caught:
        prepare(config_of(folder), RunFolder.at(tmp_path / "run"))
    assert str(bad) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in left if path.name == "manifest.json" or path.suffix == ".tmp"]
    for path in left:
        if path.suffix == ".arrow":
            pa.ipc.open_file(path).read_all().validate(full=True)


def test_after_a_repair_the_missing_shards_are_written(folder: Path, tmp_path: Path) -> None:
    bad = folder / "test" / "cat" / "001.png"
    complete = bad.read_bytes()
    bad.write_bytes(bytes(len(complete)))
    with pytest.raises(UserError):
        prepare(config_of(folder), RunFolder.at(tmp_path / "run"))
    bad.write_bytes(complete)
    shards = prepare(config_of(folder), RunFolder.at(tmp_path / "run")).folder
    assert len(PreparedDataset(shards, Data()).test_set().labels) == 12


def test_skipped_images_are_reported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train" / "bee" / "003.png").write_bytes(b"")
    prepare(config_of(folder, on_bad_image="skip"), RunFolder.at(tmp_path / "run"))
    output = capsys.readouterr().out
    assert "1 images could not be decoded and were skipped: train/bee/003.png" in output


def test_the_cut_of_the_test_split_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "images", {"": 10})
    prepare(config_of(folder), RunFolder.at(tmp_path / "run"))
    assert "20% of every class was cut from train" in capsys.readouterr().out


def test_a_relative_path_means_the_same_to_the_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shards = prepare(config_of(Path("images")), RunFolder.at("run")).folder
    assert Path(shards).is_absolute()
    assert len(PreparedDataset(shards, Data()).classes) == 3


@pytest.mark.parametrize("enough", [True, False])
def test_too_few_images_are_reported_before_decoding(folder: Path, tmp_path: Path, enough: bool) -> None:
    config = config_of(folder, validation_fraction=0.0 if enough else 0.8)
    if enough:
        prepare(config, RunFolder.at(tmp_path / "run"), condensing=True)
        return
    with pytest.raises(UserError, match="'ant': has 2 training images, needed 4"):
        prepare(config, RunFolder.at(tmp_path / "run"), condensing=True)
    assert not (tmp_path / "run").exists()
