"""Class shards, without Ray: contents, moments, the cut of test, the key, and what is skipped."""

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
from pipeline.data.prepare import require_per_class
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import PreparedManifest, finish
from pipeline.data.shard_plan import ShardPlan, chunks, plan_shards, unfinished
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, number_of, picture, write_folder


def plan_of(root: Path, into: Path | None = None, **settings: Any) -> ShardPlan:
    """The plan for a folder of images at their own size."""
    data = Data(**{"source": "image_folder", "path": str(root), "image_size": 12, **settings})
    return plan_shards(data, str(into or root.parent / "cache"))


def made(plan: ShardPlan) -> PreparedManifest:
    """The manifest after all shards were written."""
    make_shards(plan, range(len(plan.names)))
    return finish(plan)


def table(plan: ShardPlan, split: str, label: int) -> tuple[np.ndarray, list[str]]:
    """Images and paths of a shard, read by plain pyarrow."""
    held = pa.ipc.open_file(f"{plan.folder}/{split}-{label:05d}.arrow").read_all()
    return held.column("image").combine_chunks().to_numpy_ndarray(), held.column("path").to_pylist()


def decoded(file: Path) -> np.ndarray:
    """uint8 [C, H, W] by Pillow alone."""
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")).transpose(2, 0, 1)


def test_shards_hold_the_images_in_the_order_of_the_source(folder: Path) -> None:
    plan = plan_of(folder)
    manifest = made(plan)
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


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_all_training_pixels(tmp_path: Path, channels: int) -> None:
    plan = plan_of(write_folder(tmp_path / "images", {"train": 5, "test": 2}, channels=channels))
    manifest = made(plan)
    assert plan.channels == channels
    images = np.concatenate([table(plan, "train", label)[0] for label in range(3)]) / 255
    np.testing.assert_allclose(manifest["mean"], images.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(manifest["std"], images.std((0, 2, 3)), rtol=1e-9)
    assert list(manifest["shape"]) == [channels, 12, 12]


def test_moments_of_a_plain_colour_are_no_zero(tmp_path: Path) -> None:
    (tmp_path / "images" / "ant").mkdir(parents=True)
    for i in range(5):
        (tmp_path / "images" / "ant" / f"{i}.png").write_bytes(encoded(np.full((12, 12, 3), 51, np.uint8)))
    manifest = made(plan_of(tmp_path / "images"))
    np.testing.assert_allclose(manifest["mean"], [0.2] * 3)
    assert min(manifest["std"]) > 0


def test_moments_do_not_depend_on_chunks(folder: Path, tmp_path: Path) -> None:
    whole, apart = plan_of(folder, tmp_path / "a"), plan_of(folder, tmp_path / "b")
    first = made(whole)
    for label in (2, 0, 1):
        make_shards(apart, [label])
    assert finish(apart) == first
    for name in storage.files_below(whole.folder):
        assert storage.read_bytes(f"{whole.folder}/{name}") == storage.read_bytes(f"{apart.folder}/{name}")


# The cut of test from train


def cut(
    tmp_path: Path, name: str, count: int = 20, **settings: Any
) -> tuple[ShardPlan, list[list[str]], list[list[str]]]:
    """The plan of a source without test, and the paths in train and in test of every class."""
    if not (tmp_path / "images").exists():
        write_folder(tmp_path / "images", {"": count})
    plan = plan_of(tmp_path / "images", tmp_path / name, **settings)
    made(plan)
    labels = range(len(plan.names))
    return plan, [table(plan, "train", i)[1] for i in labels], [table(plan, "test", i)[1] for i in labels]


@pytest.mark.parametrize(("fraction", "tests"), [(0.2, 4), (0.5, 10), (0.1, 2)])
def test_cut_is_stratified_disjoint_and_complete(tmp_path: Path, fraction: float, tests: int) -> None:
    plan, train, test = cut(tmp_path, "cache", test_fraction=fraction)
    assert plan.cut
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
    assert not plan.cut
    assert made(plan)["test_cut_from_train"] is False


def test_digits_from_beginning_to_end(tmp_path: Path) -> None:
    plan = plan_shards(Data(source="digits", image_size=16, classes=("3", "8")), str(tmp_path))
    manifest = made(plan)
    assert plan.channels == 1
    assert [entry["name"] for entry in manifest["classes"]] == ["3", "8"]
    rows = [entry["train"]["rows"] + entry["test"]["rows"] for entry in manifest["classes"]]
    assert rows == [183, 174]


# Classes


def test_classes_are_a_selection_in_the_order_given(folder: Path) -> None:
    plan = plan_of(folder, classes=("cat", "ant"))
    manifest = made(plan)
    assert plan.source_labels == (2, 0)
    assert [(entry["label"], entry["name"]) for entry in manifest["classes"]] == [(0, "cat"), (1, "ant")]
    assert table(plan, "train", 0)[1][0] == "train/cat/000.png"
    np.testing.assert_array_equal(table(plan, "train", 1)[0][0], picture(number_of("train", 0, 0)).transpose(2, 0, 1))


def test_unknown_class(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data\.classes: dog not found in .*images; it has ant, bee, cat"):
        plan_of(folder, classes=("cat", "dog"))


def test_class_without_test_images(folder: Path) -> None:
    write_folder(folder, {"train": 3}, classes=("dog",))
    with pytest.raises(UserError, match=r"without test images: dog; .*data\.classes"):
        plan_of(folder)
    assert plan_of(folder, classes=("ant", "bee")).names == ("ant", "bee")


def test_class_too_small_to_be_cut(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 2})
    with pytest.raises(UserError, match=r"without test images: ant, bee, cat.*data\.test_fraction"):
        plan_of(tmp_path / "images")


def test_wordnet_ids(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 5}, classes=("n01440764", "tench"))
    manifest = made(plan_of(tmp_path / "images"))
    assert [entry["wnid"] for entry in manifest["classes"]] == ["n01440764", ""]


# Bad images


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
    manifest = made(plan)
    bee, cat = manifest["classes"][1]["train"], manifest["classes"][2]["test"]
    assert (bee["rows"], cat["rows"]) == (10, 3)
    assert [line.split(":")[0] for line in bee["bad"]] == ["train/bee/005.png", "train/bee/007.png"]
    assert [line.split(":")[0] for line in cat["bad"]] == ["test/cat/001.png"]
    assert table(plan, "train", 1)[1] == [f"train/bee/{i:03d}.png" for i in range(12) if i not in (5, 7)]
    images = np.concatenate([table(plan, "train", label)[0] for label in range(3)])
    np.testing.assert_allclose(manifest["mean"], images.mean((0, 2, 3)) / 255, rtol=1e-12)


def test_the_first_image_may_be_bad(folder: Path) -> None:
    (folder / "train" / "ant" / "000.png").write_bytes(b"")
    assert plan_of(folder, on_bad_image="skip").channels == 3


@pytest.mark.parametrize("keep", [0, 60])
def test_nothing_but_bad_images(tmp_path: Path, keep: int) -> None:
    root = write_folder(tmp_path / "images", {"train": 2, "test": 1})
    for file in root.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="no image"):
        made(plan_of(root, on_bad_image="skip"))


def test_require_per_class(folder: Path) -> None:
    for i in range(9):
        (folder / "train" / "bee" / f"{i:03d}.png").unlink()
    plan = plan_of(folder)
    counts = dict(zip(plan.names, plan.counts["train"], strict=True))
    require_per_class(counts, 3, 0.0, "why")
    with pytest.raises(UserError) as caught:
        require_per_class(counts, 4, 0.0, "images_per_class 1 x factor 2^2")
    told = str(caught.value)
    for part in ("'bee'", "3 training images", "needed 4", "images_per_class 1 x factor 2^2", "condense.factor"):
        assert part in told
    with pytest.raises(UserError, match="has 2 training images"):
        require_per_class(counts, 3, 0.3, "why")


# Keys and resuming


def test_unfinished(folder: Path) -> None:
    plan = plan_of(folder)
    assert unfinished(plan) == [0, 1, 2]
    make_shards(plan, [1])
    assert unfinished(plan) == [0, 2]
    Path(plan.folder, "test-00001.json").unlink()
    assert unfinished(plan) == [0, 1, 2]
    make_shards(plan, unfinished(plan))
    assert unfinished(plan) == []


@pytest.mark.parametrize(
    "changed",
    [{"image_size": 16}, {"classes": ("ant", "bee")}, {"classes": ("bee", "ant", "cat")}, {"channels": 1}],
    ids=str,
)
def test_key_changes_with_what_the_pixels_depend_on(folder: Path, changed: dict[str, Any]) -> None:
    assert plan_of(folder, **changed).folder != plan_of(folder).folder


def test_key_changes_with_the_split_only_where_it_is_cut(folder: Path, tmp_path: Path) -> None:
    uncut = write_folder(tmp_path / "other", {"": 10})
    changes: list[dict[str, Any]] = [{"split_seed": 1}, {"test_fraction": 0.3}]
    for changed in changes:
        assert plan_of(folder, **changed).folder == plan_of(folder).folder
        assert plan_of(uncut, **changed).folder != plan_of(uncut).folder


@pytest.mark.parametrize(
    "unrelated", [{"validation_fraction": 0.2}, {"cache": "/elsewhere"}, {"download": True}], ids=str
)
def test_key_does_not_change_with_what_is_unrelated(folder: Path, unrelated: dict[str, Any]) -> None:
    assert plan_of(folder, **unrelated).folder == plan_of(folder).folder


def test_key_changes_with_the_content_of_the_source(folder: Path) -> None:
    before = plan_of(folder).folder
    (folder / "train" / "ant" / "000.png").write_bytes(encoded(picture(77, 13, 12)))
    assert plan_of(folder).folder != before


def test_key_changes_with_content_of_the_same_length(tmp_path: Path) -> None:
    file = tmp_path / "images" / "ant" / "0.bmp"
    file.parent.mkdir(parents=True)
    for i in range(5):
        file.with_name(f"{i}.bmp").write_bytes(encoded(picture(i), "BMP"))
    before = plan_of(tmp_path / "images").folder
    file.write_bytes(encoded(picture(99), "BMP"))
    assert plan_of(tmp_path / "images").folder != before


@pytest.mark.parametrize(("tasks", "sizes"), [(1, [3]), (2, [2, 1]), (3, [1, 1, 1]), (8, [1, 1, 1])])
def test_chunks(folder: Path, tasks: int, sizes: list[int]) -> None:
    made_chunks = chunks(plan_of(folder), [0, 1, 2], tasks)
    assert [len(chunk) for chunk in made_chunks] == sizes
    assert [label for chunk in made_chunks for label in chunk] == [0, 1, 2]


def test_chunks_are_bounded_by_their_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.shard_plan.CHUNK_BYTES", 2 * 16 * 3 * 12 * 12)
    assert chunks(plan_of(folder), [0, 1, 2], 1) == [[0, 1], [2]]
    assert chunks(plan_of(folder), [], 4) == []


def test_threads_and_batches_change_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = plan_of(folder), replace(plan_of(folder), folder=str(tmp_path / "threads"))
    make_shards(one, range(3))
    monkeypatch.setattr("pipeline.data.class_shard_writer.BATCH_BYTES", 5 * 3 * 12 * 12)
    make_shards(other, range(3), threads=3)
    assert finish(one)["mean"] == finish(other)["mean"]
    data = Data(source="image_folder", path=str(folder), image_size=12)
    caches = [PreparedDataset(plan.folder, data) for plan in (one, other)]
    assert len(pa.ipc.open_file(f"{other.folder}/train-00000.arrow").read_all().column("path").chunks) == 3
    for label in range(3):
        assert torch.equal(*(cache.train(label) for cache in caches))


def test_a_bad_image_leaves_nothing_half_written(folder: Path) -> None:
    (folder / "train" / "bee" / "007.png").write_bytes(b"no image")
    plan = plan_of(folder)
    with pytest.raises(UserError, match=r"007\.png: cannot be decoded"):
        make_shards(plan, range(3), threads=2)
    assert not list(Path(plan.folder).glob("*.json"))
    assert not list(Path(plan.folder).glob(".*.tmp"))
