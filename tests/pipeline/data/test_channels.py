"""Grey or colour: decided by many images of every class, never by the names of the files, and told where they differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.channels import LOOK_AT
from pipeline.data.shard_builder import make_shards
from pipeline.data.sources.image_folder import ImageFolder
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, picture
from tests.pipeline.support.shards import plan_of

GREY, COLOURED = encoded(picture(1, channels=1)), encoded(picture(2))


def write(root: Path, images: dict[str, Sequence[bytes]]) -> Path:
    """A folder of images, numbered within their classes."""
    for name, contents in images.items():
        (root / name).mkdir(parents=True)
        for i, content in enumerate(contents):
            (root / name / f"{i:05d}.png").write_bytes(content)
    return root


@pytest.mark.parametrize("at", [0, 5, 9])
def test_one_grey_image_leaves_the_colours(tmp_path: Path, at: int) -> None:
    images = [GREY if i == at else COLOURED for i in range(10)]
    plan = plan_of(write(tmp_path / "images", {"a": images, "b": [COLOURED] * 10}))
    assert plan.channels == 3
    assert plan.channels_note == (
        "1 of 20 images looked at are grey, the others coloured: all are stored in colour; data.channels=1 stores them in grey"
    )


@pytest.mark.parametrize("at", [0, 9])
def test_one_coloured_image_decides(tmp_path: Path, at: int) -> None:
    images = [COLOURED if i == at else GREY for i in range(10)]
    plan = plan_of(write(tmp_path / "images", {"a": [GREY] * 10, "b": images}))
    assert (plan.channels, plan.channels_note[:8]) == (3, "19 of 20")


@pytest.mark.parametrize(("content", "channels"), [(GREY, 1), (COLOURED, 3)])
def test_nothing_is_said_where_all_agree(tmp_path: Path, content: bytes, channels: int) -> None:
    plan = plan_of(write(tmp_path / "images", {"a": [content] * 5, "b": [b"", *[content] * 4]}), on_bad_image="skip")
    assert (plan.channels, plan.channels_note) == (channels, "")


def test_the_setting_decides(tmp_path: Path) -> None:
    root = write(tmp_path / "images", {"a": [GREY] * 5, "b": [COLOURED] * 5})
    for channels in (1, 3):
        plan = plan_of(root, channels=channels)
        assert (plan.channels, plan.channels_note) == (channels, "")
        make_shards(plan, [0, 1])


def test_names_do_not_decide_in_a_large_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.channels.LOOK_AT", 16)
    for order, images in {
        "grey first": [GREY] * 80 + [COLOURED] * 20,
        "coloured first": [COLOURED] * 20 + [GREY] * 80,
    }.items():
        plan = plan_of(write(tmp_path / order / "images", {"a": images, "b": [GREY] * 100}))
        assert plan.channels == 3
        assert "are grey, the others coloured" in plan.channels_note


def test_colours_that_were_not_looked_at_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.channels.LOOK_AT", 4)
    images = [GREY] * 50
    images[1] = COLOURED
    root = write(tmp_path / "images", {"a": images, "b": [GREY] * 50})
    plan = plan_of(root)
    assert plan.channels == 1
    with pytest.raises(UserError, match=r"a/00001\.png: has colours, .* set data\.channels=3 .* or 1"):
        make_shards(plan, [0])
    make_shards(plan_of(root, channels=1), [0])


def test_no_image_can_be_decoded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image that can be decoded"):
        plan_of(write(tmp_path / "images", {"a": [b"x"] * 5, "b": [b"y"] * 5}))


def test_an_image_outside_the_sample_decides_if_the_others_are_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.channels.LOOK_AT", 2)
    root = write(tmp_path / "images", {"a": [b"x"] * 9 + [GREY], "b": [b"y"] * 10})
    assert plan_of(root, on_bad_image="skip").channels == 1


@pytest.mark.parametrize("classes", [5, 9, 40])
def test_images_of_some_of_very_many_classes_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    monkeypatch.setattr("pipeline.data.channels.LOOK_AT", 4)
    read: list[int] = []
    images = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda *args: (read.append(item.label) or item for item in images(*args)))
    root = write(tmp_path / "images", {f"{i:03d}": [GREY] * 2 for i in range(classes)})
    assert plan_of(root, test_fraction=0.5).channels == 1
    assert len(read) == len(set(read)) == 4
    assert max(read) - min(read) >= classes // 2


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_parquet_file_without_rows_is_passed_over(tmp_path: Path, position: int) -> None:
    rows = 2 * LOOK_AT
    files = [[i % 4 for i in range(rows)]] * 2
    files.insert(position, [])
    for i, labels in enumerate(files):
        table = pa.table({"image": pa.array([GREY] * len(labels), pa.binary()), "label": pa.array(labels, pa.int64())})
        with pq.ParquetWriter(tmp_path / f"train-{i}.parquet", table.schema) as writer:
            for batch in table.to_batches():
                writer.write_batch(batch)
    assert pq.ParquetFile(tmp_path / f"train-{position}.parquet").num_row_groups == 0
    assert plan_of(tmp_path, tmp_path / "cache", source="parquet").channels == 1


def write_rows(path: Path, images: Sequence[bytes], labels: Sequence[int], group: int) -> Path:
    """A Parquet file of images."""
    pq.write_table(pa.table({"image": list(images), "label": list(labels)}), path, row_group_size=group)
    return path


@pytest.mark.parametrize("group", [7, 100, 4000])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_every_class_of_parquet_is_looked_at(tmp_path: Path, group: int, is_sorted: bool) -> None:
    rows = 2 * LOOK_AT
    labels = np.arange(rows) * 10 // rows if is_sorted else np.arange(rows) % 10
    images = [COLOURED if label == 7 else GREY for label in labels]
    plan = plan_of(write_rows(tmp_path / "a.parquet", images, labels.tolist(), group), source="parquet")
    assert plan.channels == 3


def test_few_row_groups_of_parquet_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.data.sources.parquet.file import ParquetFile

    read: list[int] = []
    images = ParquetFile.images
    monkeypatch.setattr(ParquetFile, "images", lambda file, *args: read.append(args[1]) or images(file, *args))
    rows = 2 * LOOK_AT
    path = write_rows(tmp_path / "a.parquet", [GREY] * rows, [i % 4 for i in range(rows)], 16)
    assert plan_of(path, source="parquet").channels == 1
    assert 8 <= len(read) == len(set(read)) <= 32
    assert max(read) - min(read) > 96  # spread over the 128 row groups


def test_the_key_names_the_reading_of_encoded_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "images", {"a": [GREY] * 5, "b": [GREY] * 5})
    table = write_rows(tmp_path / "a.parquet", [GREY] * 10, [0, 1] * 5, 5)

    def keys() -> list[str]:
        return [
            plan_of(path, tmp_path, source=source).folder
            for path, source in ((folder, "image_folder"), (table, "parquet"))
        ]

    before = keys()
    monkeypatch.setattr("pipeline.data.shard_plan.READING", 99)
    assert not set(before) & set(keys())


def test_the_key_of_pixels_is_that_of_all_versions(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tmp_path, source="digits", image_size=8, path=None)
    assert plan.folder == f"{tmp_path}/bad56d70b53b8afa"
