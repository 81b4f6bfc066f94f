"""Class shards, without Ray: contents, the cut of the test split, the order of classes, and images that are skipped."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from pipeline.data.shard_plan import ShardPlan, plan_shards
from pipeline.errors import UserError
from tests.pipeline.support.images import number_of, picture, write_folder
from tests.pipeline.support.shards import finished, plan_of, table


def decoded(file: Path) -> np.ndarray:
    """uint8 [C, H, W] by Pillow alone."""
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")).transpose(2, 0, 1)


def test_shards_hold_the_images_in_the_order_of_the_source(folder: Path) -> None:
    plan = plan_of(folder)
    manifest = finished(plan)
    assert sorted(storage.files_below(plan.folder, ".arrow")) == [
        f"{split}-{label:05d}.arrow" for split in ("test", "train") for label in range(3)
    ]
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("ant", "bee", "cat")):
            images, paths = table(plan, split, label)
            assert images.dtype == np.uint8
            assert paths == [f"{split}/{name}/{i:03d}.png" for i in range(count)]
            np.testing.assert_array_equal(images, np.stack([decoded(folder / path) for path in paths]))
            entry = manifest["classes"][label][split]
            file = Path(plan.folder) / entry["file"]
            assert (entry["rows"], entry["bad"]) == (count, [])
            assert entry["sha256"] == storage.sha256(file.read_bytes())


def test_schema_of_a_class_shard(folder: Path) -> None:
    plan = plan_of(folder)
    make_shards(plan, [0])
    schema = pa.ipc.open_file(f"{plan.folder}/train-00000.arrow").schema
    assert schema.names == ["image", "path"]
    assert schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (3, 12, 12), dim_names=["C", "H", "W"])


def cut(
    tmp_path: Path, name: str, count: int = 20, **settings: Any
) -> tuple[ShardPlan, list[list[str]], list[list[str]]]:
    """The plan of a source without test, and the paths in train and in test of every class."""
    if not (tmp_path / "images").exists():
        write_folder(tmp_path / "images", {"": count})
    plan = plan_of(tmp_path / "images", tmp_path / name, **settings)
    finished(plan)
    labels = range(len(plan.names))
    return plan, [table(plan, "train", i)[1] for i in labels], [table(plan, "test", i)[1] for i in labels]


@pytest.mark.parametrize(("fraction", "tests"), [(0.2, 4), (0.5, 10), (0.1, 2)])
def test_cut_is_stratified_disjoint_and_complete(tmp_path: Path, fraction: float, tests: int) -> None:
    plan, train, test = cut(tmp_path, "cache", test_fraction=fraction)
    assert plan.test_cut_from_train
    assert finish(plan)["test_cut_from_train"] is True
    for label, name in enumerate(("ant", "bee", "cat")):
        assert len(test[label]) == tests
        assert not set(train[label]) & set(test[label])
        assert sorted(train[label] + test[label]) == [f"{name}/{i:03d}.png" for i in range(20)]
        assert train[label] == sorted(train[label])


def test_cut_is_seeded(tmp_path: Path) -> None:
    first, same, other = (cut(tmp_path, f"cache{i}", split_seed=seed)[2] for i, seed in enumerate((0, 0, 1)))
    assert first == same
    assert first != other
    assert [path[-7:] for path in first[0]] != [path[-7:] for path in first[1]]


def test_cut_of_a_class_does_not_depend_on_the_others(tmp_path: Path) -> None:
    all_classes, subset = cut(tmp_path, "a")[2], cut(tmp_path, "b", classes=("cat", "ant"))[2]
    assert subset == [all_classes[2], all_classes[0]]


def test_no_cut_where_there_is_a_test_split(folder: Path) -> None:
    plan = plan_of(folder)
    assert not plan.test_cut_from_train
    assert finished(plan)["test_cut_from_train"] is False


def test_digits_from_beginning_to_end(tmp_path: Path) -> None:
    plan = plan_shards(Data(source="digits", image_size=16, classes=("3", "8")), str(tmp_path))
    manifest = finished(plan)
    assert plan.channels == 1
    assert [entry["name"] for entry in manifest["classes"]] == ["3", "8"]
    rows = [entry["train"]["rows"] + entry["test"]["rows"] for entry in manifest["classes"]]
    assert rows == [183, 174]


def test_classes_are_a_selection_in_the_order_given(folder: Path) -> None:
    plan = plan_of(folder, classes=("cat", "ant"))
    manifest = finished(plan)
    assert plan.source_labels == (2, 0)
    assert [(entry["label"], entry["name"]) for entry in manifest["classes"]] == [(0, "cat"), (1, "ant")]
    assert table(plan, "train", 0)[1][0] == "train/cat/000.png"
    np.testing.assert_array_equal(table(plan, "train", 1)[0][0], picture(number_of("train", 0, 0)).transpose(2, 0, 1))


def test_bad_image_fails_with_its_path(folder: Path) -> None:
    bad = folder / "train" / "bee" / "005.png"
    bad.write_bytes(bad.read_bytes()[:100])
    plan = plan_of(folder)
    with pytest.raises(UserError, match=r"data\.on_bad_image=skip") as caught:
        make_shards(plan, range(3))
    assert str(bad) in str(caught.value)
    assert storage.files_below(plan.folder) == []


def test_bad_images_are_skipped_and_listed(folder: Path) -> None:
    for place in ("train/bee/005.png", "train/bee/007.png", "test/cat/001.png"):
        (folder / place).write_bytes(b"no image")
    plan = plan_of(folder, on_bad_image="skip")
    manifest = finished(plan)
    bee, cat = manifest["classes"][1]["train"], manifest["classes"][2]["test"]
    assert (bee["rows"], cat["rows"]) == (10, 3)
    assert [line.split(":")[0] for line in bee["bad"]] == ["train/bee/005.png", "train/bee/007.png"]
    assert [line.split(":")[0] for line in cat["bad"]] == ["test/cat/001.png"]
    assert table(plan, "train", 1)[1] == [f"train/bee/{i:03d}.png" for i in range(12) if i not in (5, 7)]
    images = np.concatenate([table(plan, "train", label)[0] for label in range(3)])
    np.testing.assert_allclose(manifest["mean"], images.mean((0, 2, 3)) / 255, rtol=1e-12)


@pytest.mark.parametrize("keep", [0, 60])
def test_nothing_but_bad_images(tmp_path: Path, keep: int) -> None:
    root = write_folder(tmp_path / "images", {"train": 2, "test": 1})
    for file in root.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="no image"):
        finished(plan_of(root, on_bad_image="skip"))


def test_threads_and_batches_change_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default, threaded = plan_of(folder), replace(plan_of(folder), folder=str(tmp_path / "threads"))
    make_shards(default, range(3))
    monkeypatch.setattr("pipeline.data.class_shard_writer.BATCH_BYTES", 5 * 3 * 12 * 12)
    make_shards(threaded, range(3), threads=3)
    assert finish(default)["mean"] == finish(threaded)["mean"]
    data = Data(source="image_folder", path=str(folder), image_size=12)
    datasets = [PreparedDataset(plan.folder, data) for plan in (default, threaded)]
    assert len(pa.ipc.open_file(f"{threaded.folder}/train-00000.arrow").read_all().column("path").chunks) == 3
    for label in range(3):
        assert torch.equal(*(dataset.train(label) for dataset in datasets))


def test_a_bad_image_leaves_nothing_half_written(folder: Path) -> None:
    (folder / "train" / "bee" / "007.png").write_bytes(b"no image")
    plan = plan_of(folder)
    with pytest.raises(UserError, match=r"007\.png: cannot be decoded"):
        make_shards(plan, range(3), threads=2)
    assert not list(Path(plan.folder).glob("*.json"))
    assert not list(Path(plan.folder).glob(".*.tmp"))
