"""Parquet: splits, order and fingerprint, and messages for damaged files."""

import itertools
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.run_config import Data
from pipeline.data.sources import open_source
from pipeline.errors import UserError
from tests.pipeline.support.parquet import LABELS, STRUCT, hub, is_read_in_order, write_parquet
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


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_one_line_or_images(tmp_path: Path, seed: int) -> None:
    labels = (LABELS, ["a", "b"] * 4, [0.0, 1.0] * 4, pa.array(["a", "b"] * 4, pa.string_view()))[seed]
    path = write_parquet(tmp_path / "a.parquet", labels, metadata=hub() if seed == 0 else None, row_group_size=3)
    complete, random = path.read_bytes(), np.random.default_rng(seed)
    footer = len(complete) - 8 - int.from_bytes(complete[-8:-4], "little")
    outcomes = set()
    for _ in range(80):
        damaged = bytearray(complete)
        for place in random.integers(footer if random.random() < 0.7 else 0, len(complete), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            outcomes.add(f"{len(read_all('parquet', path))} images")
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            outcomes.add("refused")
    assert len(outcomes) > 1


def test_one_image_in_many_rows_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.sources.parquet.file.BATCH_BYTES", 2**24)
    large = bytes(4 * 2**20)
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array([large], pa.binary()))
    pq.write_table(pa.table({"image": rows, "label": [0] * 5000}), tmp_path / "a.parquet", store_schema=False)
    source = open_source(Data(source="parquet", path=str(tmp_path / "a.parquet")))
    before = pa.total_allocated_bytes()
    items = source.read("train", [0])
    assert [len(item.content) for item in itertools.islice(items, 3)] == [len(large)] * 3
    assert pa.total_allocated_bytes() - before < 64 * 2**20


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.parquet"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert refusal("parquet", path)
