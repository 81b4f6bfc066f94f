"""Parquet: splits, order and fingerprint, and messages for damaged files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from tests.pipeline.support.parquet import LABELS, STRUCT, is_read_in_order, write_parquet
from tests.pipeline.support.sources import index_of, read_all, refusal


@pytest.mark.parametrize("rows", [1, 2, 256])
def test_parquet_of_plain_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("pipeline.data.sources.parquet.file.READ_ROWS", rows)
    path = write_parquet(tmp_path / "a.parquet", structs=False)
    assert index_of("parquet", path).class_names == ("0", "1", "2")
    assert is_read_in_order(path)
    assert [item.path for item in read_all("parquet", path)] == [f"a.parquet[{i}]" for i in range(len(LABELS))]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("train-00000.parquet", "test-00000.parquet"), ("train", "test")),
        (("train-00000.parquet", "val-00000.parquet"), ("train", "test")),
        (("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"), ("train", "test")),
        (("train/0.parquet", "test/0.parquet"), ("train", "test")),
        (("plain_text/train-0.parquet", "plain_text/test-0.parquet"), ("train", "test")),
        (("0.parquet",), ("train",)),
        (("test-00000.parquet",), ("train",)),
    ],
)
def test_splits_of_parquet(tmp_path: Path, files: tuple[str, ...], expected: tuple[str, ...]) -> None:
    for rows, file in zip(([0, 1, 2], [0, 1, 2, 2]), files, strict=False):
        write_parquet(tmp_path / file, rows)
    counts = {"train": (1, 1, 1)} | ({"test": (1, 1, 2)} if len(expected) > 1 else {})
    assert index_of("parquet", tmp_path).counts == counts


def test_test_is_preferred_over_val_in_parquet(tmp_path: Path) -> None:
    for file, labels in (("train", [0, 1]), ("val", [0, 0, 1]), ("test", [0, 1, 1])):
        write_parquet(tmp_path / f"{file}-0.parquet", labels)
    assert index_of("parquet", tmp_path).counts == {"train": (1, 1), "test": (1, 2)}


def test_a_test_file_beside_a_file_of_no_split_is_used(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data.parquet", [0, 1, 1])
    write_parquet(tmp_path / "test.parquet", [0, 1])
    assert index_of("parquet", tmp_path).counts == {"train": (1, 2), "test": (1, 1)}


def test_several_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for i, labels in enumerate(([0, 1], [1, 0], [0])):
        write_parquet(tmp_path / f"train-{i:05d}.parquet", labels, structs=False)
    assert index_of("parquet", tmp_path).counts == {"train": (3, 2)}
    assert [(item.label, item.path) for item in read_all("parquet", tmp_path)] == [
        (0, "train-00000.parquet[0]"),
        (1, "train-00000.parquet[1]"),
        (1, "train-00001.parquet[0]"),
        (0, "train-00001.parquet[1]"),
        (0, "train-00002.parquet[0]"),
    ]


def test_parquet_changes_its_fingerprint(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [0, 1])
    before = index_of("parquet", path).fingerprint
    assert index_of("parquet", path).fingerprint == before
    write_parquet(path, [0, 1, 1])
    assert index_of("parquet", path).fingerprint != before


def test_rows_without_an_image_come_as_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([None], STRUCT), "label": [0]}), tmp_path / "a.parquet")
    assert [item.content for item in read_all("parquet", tmp_path)] == [b""]


def test_no_rows(tmp_path: Path) -> None:
    assert "no rows" in refusal("parquet", write_parquet(tmp_path / "a.parquet", pa.array([], pa.int64())))


def test_no_parquet_files(tmp_path: Path) -> None:
    assert "no .parquet files" in refusal("parquet", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_corrupt_parquet(tmp_path: Path, damage: str) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    complete = path.read_bytes()
    path.write_bytes({"truncated": complete[:-40], "text": b"no parquet at all", "empty": b""}[damage])
    assert f"{path}: is not a complete Parquet file" in refusal("parquet", path)


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_damage_inside_of_parquet(tmp_path: Path, compression: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", structs=False, compression=compression, use_dictionary=False)
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet"):
        read_all("parquet", path)
