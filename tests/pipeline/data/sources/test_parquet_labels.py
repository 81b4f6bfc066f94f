"""Labels of Parquet: every type that can be one, folders of hive partitions, rows without a label, and sizes that expand."""

import decimal
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.findings import LeftOut
from pipeline.data.sources.parquet.file import dictionary_of
from pipeline.errors import UserError
from tests.pipeline.support.parquet import LABELS, NAMES, STRUCT, contents, hub, is_read_in_order, write_parquet
from tests.pipeline.support.sources import index_of, read_all, refusal

TWO = [i % 2 for i in range(8)]
OTHER = pa.array([i // 4 for i in range(8)])
"""Integers that are no labels."""


def of_type(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of that type."""
    return pa.array(values, kind)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array([bool(i) for i in TWO]), ("False", "True")),
        (pa.array([float(i) for i in TWO]), ("0", "1")),
        (pa.array([float(i) for i in TWO], pa.float16()), ("0", "1")),
        (pa.array([decimal.Decimal(i) for i in TWO], pa.decimal128(5, 2)), ("0", "1")),
        (pa.array([decimal.Decimal(i) for i in TWO], pa.decimal256(50, 2)), ("0", "1")),
        (pa.array([b"cat" if i else b"dog" for i in TWO], pa.binary(3)), ("cat", "dog")),
        (pa.array([b"cat" if i else b"a\0\0" for i in TWO], pa.binary(3)), ("a", "cat")),
        (pa.array([b"cat" if i else b"dog" for i in TWO], pa.binary()), ("cat", "dog")),
        (pa.array(["cat" if i else "dog" for i in TWO], pa.string_view()), ("cat", "dog")),
        (pa.array([b"cat" if i else b"dog" for i in TWO], pa.binary_view()), ("cat", "dog")),
        (pa.array(TWO, pa.int16()).dictionary_encode(), ("0", "1")),
        (pa.array([2**63 + i for i in TWO], pa.uint64()), (str(2**63), str(2**63 + 1))),
        (pa.array(["10" if i else "9" for i in TWO]), ("9", "10")),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array(TWO, pa.int8())), ("0", "1")),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
@pytest.mark.parametrize("label", ["label", "Label", "CATEGORY"])
def test_types_of_labels(tmp_path: Path, labels: pa.Array, names: tuple[str, ...], label: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", labels, label=label, before={"width": OTHER})
    index = index_of("parquet", path)
    assert index.class_names == names
    assert index.counts == {"train": (4, 4)}
    assert index.findings.columns == {"image": "image", "label": label}
    rows = [int(item.path.partition(".")[0]) for item in read_all("parquet", path, labels=[1])]
    values = labels.to_pylist()
    assert len(rows) == 4
    assert len({str(values[row]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (pa.array([[i] for i in TWO]), "column 'labels' is list<"),
        (pa.array([{"id": i} for i in TWO]), "column 'labels' is struct<"),
        (pa.array(TWO, pa.timestamp("ms")), "column 'labels' is timestamp[ms]"),
        (pa.array([i + 0.5 for i in TWO]), "column 'labels' holds 0.5"),
        (pa.array([decimal.Decimal("1.50")] * 8), "column 'labels' holds 1.50"),
        (pa.array([float("inf")] * 8), "column 'labels' holds inf"),
        (pa.array([b"\xff\xfe"] * 8), "bytes that are no text"),
        (pa.array([b"\xff\xfe"] * 8).view(pa.string()), "not UTF-8"),
        (pa.array(["a" * 1001] * 8), "a text of 1001 characters"),
        (pa.nulls(8), "8 rows have no label"),
        (pa.array([float("nan")] * 8), "8 rows have no label"),
        (pa.array([""] * 8), "8 rows have no label"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.type),
)
def test_a_column_called_like_a_label_is_never_passed_over(tmp_path: Path, labels: pa.Array, what: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", labels, label="labels", before={"image_id": OTHER})
    message = refusal("parquet", path)
    assert what in message
    assert str(tmp_path) in message


def test_labels_of_two_types(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", TWO)
    write_parquet(tmp_path / "train-1.parquet", ["cat", "dog"])
    message = refusal("parquet", tmp_path)
    assert f"labels are integers in {tmp_path}/train-0.parquet and text in {tmp_path}/train-1.parquet" in message


def test_labels_of_another_type_in_the_test_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", TWO, metadata=hub())
    write_parquet(tmp_path / "test-0.parquet", ["ant", "bee"])
    assert "labels are integers in" in refusal("parquet", tmp_path)


def test_integers_of_two_widths_are_one_type(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", pa.array(TWO, pa.int8()))
    write_parquet(tmp_path / "train-1.parquet", pa.array([1.0, 0.0], pa.float32()))
    write_parquet(tmp_path / "train-2.parquet", pa.nulls(0))
    assert index_of("parquet", tmp_path).counts == {"train": (5, 5)}


def test_texts_of_declared_classes(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["cat", "ant", "cat"], metadata=hub())
    assert index_of("parquet", path).class_names == tuple(NAMES)
    assert [item.label for item in read_all("parquet", path)] == [2, 0, 2]
    assert "holds cow" in refusal("parquet", write_parquet(path, ["cat", "cow"], metadata=hub()))


def test_declared_names_in_another_order(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", metadata=hub())
    other = {key: value.replace(b'["ant", "bee"', b'["bee", "ant"') for key, value in hub().items()}
    write_parquet(tmp_path / "train-1.parquet", metadata=other)
    message = refusal("parquet", tmp_path)
    assert "other names, or another order" in message
    assert all(f"train-{i}.parquet" in message for i in range(2))


def partitions(root: Path, values: list[str], key: str = "label") -> Path:
    """Files in folders such as label=3, two rows each."""
    for value in values:
        place = root / f"{key}={value}"
        place.mkdir(parents=True)
        cells = [{"bytes": content, "path": None} for content in contents(2)]
        pq.write_table(pa.table({"image": pa.array(cells, STRUCT)}), place / "part-0.parquet")
    return root


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["hot%20dog", "ice%2Fcream"], ("hot dog", "ice/cream")),
        (["caf%C3%A9", "100%25", "50%", "%E9"], ("%E9", "100%", "50%", "café")),
        (["0", "10", "9"], ("0", "9", "10")),
        (["-1", "0", "1"], ("-1", "0", "1")),
        (["1", "cat"], ("1", "cat")),
        (["01", "1", "2"], ("01", "1", "2")),
        (["002", "010", "1"], ("1", "002", "010")),
        (["-0", "0"], ("-0", "0")),
    ],
)
@pytest.mark.parametrize("key", ["label", "Category"])
def test_folders_of_hive_partitions(tmp_path: Path, values: list[str], names: tuple[str, ...], key: str) -> None:
    index = index_of("parquet", partitions(tmp_path, values, key))
    assert index.class_names == names
    assert index.counts == {"train": (2,) * len(names)}


@pytest.mark.parametrize("key", ["label", "category", "Category", "species", "my%20species"])
@pytest.mark.parametrize("values", [["bus", "train"], ["dev", "test", "train"], ["train", "train_old"]])
def test_classes_called_like_splits(tmp_path: Path, values: list[str], key: str) -> None:
    partitions(tmp_path, values, key)
    settings = {"label_column": key.replace("%20", " ")} if "species" in key else {}
    index = index_of("parquet", tmp_path, **settings)
    assert (index.class_names, index.counts) == (tuple(values), {"train": (2,) * len(values)})
    partitions(tmp_path / "split=test", values, key)
    assert index_of("parquet", tmp_path, **settings).counts == {"train": (2,) * len(values), "test": (2,) * len(values)}


def test_what_pyarrow_partitions_is_read_back(tmp_path: Path) -> None:
    names = ["hot dog", "ice/cream", "a=b", "100 %", "ü"]
    table = pa.table({"image": contents(10), "label": names * 2})
    pq.write_to_dataset(table, str(tmp_path), partition_cols=["label"])
    assert index_of("parquet", tmp_path).class_names == tuple(sorted(names))


@pytest.mark.parametrize("value", ["__HIVE_DEFAULT_PARTITION__", ""])
def test_the_partition_of_null_is_no_label(tmp_path: Path, value: str) -> None:
    assert "2 rows have no label" in refusal("parquet", partitions(tmp_path, ["0", "1", value]))


def test_folders_that_name_two_classes(tmp_path: Path) -> None:
    partitions(tmp_path / "label=1", ["0", "1"], key="class")
    assert "by class and label; choose one with data.label_column" in refusal("parquet", tmp_path)
    assert index_of("parquet", tmp_path, label_column="class").class_names == ("0", "1")


def test_test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", metadata=hub())
    write_parquet(tmp_path / "test-0.parquet", [0, -1, None, 1], metadata=hub())
    index = index_of("parquet", tmp_path)
    assert index.counts["test"] == (1, 1, 0)
    examples = ("test-0.parquet[1]", "test-0.parquet[2]")
    assert index.findings.left_out == (LeftOut(reason="no label", count=2, unit="row", examples=examples),)
    assert (index.findings.found, index.findings.taken) == (7 + 4, 7 + 2)


@pytest.mark.parametrize("labels", [[-1] * 4, pa.nulls(4), pa.array([None] * 4, pa.int64())])
def test_a_test_split_without_labels_gives_way_to_val(tmp_path: Path, labels: Any) -> None:
    write_parquet(tmp_path / "train-0.parquet", metadata=hub())
    write_parquet(tmp_path / "test-0.parquet", labels, metadata=hub())
    assert "test has no labelled images" in refusal("parquet", tmp_path)
    write_parquet(tmp_path / "validation-0.parquet", [0, 1, 2], metadata=hub())
    assert index_of("parquet", tmp_path).counts == {"train": (2, 2, 3), "test": (1, 1, 1)}


def test_test_rows_of_other_classes_are_counted(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2])
    write_parquet(tmp_path / "test-0.parquet", [0, 7, 2, -1])
    left_out = index_of("parquet", tmp_path).findings.left_out[-1]
    assert (left_out.reason, left_out.count) == ("a label that no training image has", 2)
    assert left_out.examples == ("test-0.parquet[1]", "test-0.parquet[3]")


def test_view_types_are_read(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    images = contents()
    for name, column in {
        "plain": pa.array(images, pa.binary_view()),
        "struct": pa.array([{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(images)], struct),
    }.items():
        pq.write_table(pa.table({"image": column, "label": LABELS}), tmp_path / f"{name}.parquet")
        assert is_read_in_order(tmp_path / f"{name}.parquet")


def test_more_rows_than_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"image": pa.nulls(200_000, STRUCT), "label": pa.array(np.zeros(200_000, np.int8))}
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 200_000
    assert f"has 200000 rows in {path.stat().st_size} bytes" in refusal("parquet", path)


def test_paths_that_are_many_times_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.sources.parquet.order.FEW_BYTES", 2**20)
    cells = [{"bytes": b"x", "path": "p" * 10_000}] * 2000
    pq.write_table(pa.table({"image": pa.array(cells, STRUCT), "label": [0] * 2000}), tmp_path / "a.parquet")
    assert "its paths of images take more than 4 times" in refusal("parquet", tmp_path / "a.parquet")


def test_a_dictionary_that_lacks_values() -> None:
    broken = pa.DictionaryArray.from_arrays(pa.array([0, 5], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(UserError, match=r"a\.parquet: is damaged \(a dictionary lacks values\)"):
        dictionary_of(broken, "a.parquet")


def test_too_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.sources.parquet.labels.MOST_CLASSES", 5)
    path = write_parquet(tmp_path / "a.parquet", list(range(6)))
    assert "column 'label' has more than 5 different labels" in refusal("parquet", path)


def test_millions_of_equal_labels_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": pa.nulls(2_000_000, pa.binary()), "label": pa.array(np.zeros(2_000_000, np.int8))})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(10):
            writer.write_table(table)
    assert path.stat().st_size < 2**20
    del table
    tracemalloc.start()
    try:
        assert "has 20000000 rows in" in refusal("parquet", path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_labels_take_a_few_bytes_of_memory_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 1_000_000
    monkeypatch.setattr("pipeline.data.sources.parquet.file.FEW_ROWS", rows)
    labels = np.random.default_rng(0).integers(0, 9, rows)
    texts = pa.DictionaryArray.from_arrays(labels, [f"class {i}" for i in range(9)])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.nulls(rows, pa.binary()), "label": texts}), path)
    tracemalloc.start()
    try:
        counts = index_of("parquet", path).counts["train"]
        assert tracemalloc.get_traced_memory()[1] < 24 * rows
    finally:
        tracemalloc.stop()
    assert counts == tuple(np.bincount(labels).tolist())
