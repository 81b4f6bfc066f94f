"""Columns of Parquet: which hold images and labels, how classes are named, and messages for what is refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.support.parquet import LABELS, NAMES, contents, hub, is_read_in_order, write_parquet
from tests.pipeline.support.sources import index_of, read_all, refusal


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("photo", "species")])
def test_parquet_of_the_hub(tmp_path: Path, image: str, label: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", image=image, label=label, metadata=hub(image, label), row_group_size=3)
    index = index_of("parquet", path)
    assert index.class_names == ("ant", "bee", "cat")
    assert index.counts == {"train": (2, 2, 3)}
    assert is_read_in_order(path)
    assert [item.path for item in read_all("parquet", path, labels=[1])] == ["0.png", "3.png"]


@pytest.mark.parametrize("kind", ["int64", "int32", "int8", "uint8", "string", "large_string", "dictionary"])
def test_kinds_of_labels(tmp_path: Path, kind: str) -> None:
    if kind.startswith("int") or kind == "uint8":
        labels, names = pa.array(LABELS, getattr(pa, kind)()), ("0", "1", "2")
    else:
        texts = pa.array([NAMES[label] for label in LABELS])
        labels = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(pa, kind)())
        names = tuple(NAMES)
    path = write_parquet(tmp_path / "a.parquet", labels)
    index = index_of("parquet", path)
    assert index.class_names == names
    assert index.counts == {"train": (2, 2, 3)}
    assert is_read_in_order(path)


def test_labels_with_gaps_and_without_names(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [7, 3, 7])
    assert index_of("parquet", path).class_names == ("3", "7")
    assert [item.label for item in read_all("parquet", path)] == [1, 0, 1]


def test_fine_labels_are_preferred(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", label="fine_label", before={"coarse_label": [0] * 7})
    assert len(index_of("parquet", path).class_names) == 3


def test_the_declared_image_column_is_preferred(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", before={"digest": [b"\x01\x02"] * 7}, metadata=hub())
    assert is_read_in_order(path)


def test_no_image_column_says_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [0], "url": ["x"]}), tmp_path / "a.parquet")
    message = refusal("parquet", tmp_path)
    assert "no image column" in message
    assert "label (int64), url (string)" in message


def test_no_label_column_says_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": contents(1), "score": [0.5]}), tmp_path / "a.parquet")
    message = refusal("parquet", tmp_path)
    assert "no label column" in message
    assert "image (binary), score (double)" in message


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0, 99, 100]])
def test_labels_outside_the_named_classes(tmp_path: Path, labels: list[int]) -> None:
    message = refusal("parquet", write_parquet(tmp_path / "a.parquet", labels, metadata=hub()))
    assert "outside its 3 named classes" in message
    assert all(str(label) in message for label in labels if label not in range(3))
    assert "'label'" in message


def test_rows_without_a_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0, None, 1]))
    assert "1 rows have no label" in refusal("parquet", path)
