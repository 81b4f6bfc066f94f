"""Condensed shards: the schema, and round trips."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3d import Condensed
from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.condensed_reader import load_condensed, parse_shard, read_shard
from pipeline.formats.condensed_writer import condensed_shard, save_condensed
from pipeline.workflow.verify import verify
from tests.pipeline.support.condensed_sets import CLASSES, values


def table() -> pa.Table:
    """A shard of three classes, read by plain pyarrow."""
    return pa.ipc.open_file(pa.BufferReader(condensed_shard(values(), CLASSES, {"b": [1], "a": None}))).read_all()


def test_columns_and_types() -> None:
    schema = table().schema
    assert {field.name: field.type for field in schema} == {
        "image": pa.fixed_shape_tensor(pa.float32(), (3, 8, 8), dim_names=["C", "H", "W"]),
        "label": pa.int64(),
        "wnid": pa.string(),
        "class_name": pa.string(),
        "ipc_index": pa.int32(),
    }
    assert schema.names == ["image", "label", "wnid", "class_name", "ipc_index"]
    assert schema.field("image").type.dim_names == ["C", "H", "W"]
    assert json.loads(schema.metadata[b"m3d"]) == {"a": None, "b": [1]}


def test_rows_are_class_by_class() -> None:
    rows = table()
    assert rows.column("label").to_pylist() == [0, 0, 1, 1, 2, 2]
    assert rows.column("ipc_index").to_pylist() == [0, 1] * 3
    assert rows.column("class_name").to_pylist() == ["ant"] * 2 + ["bee"] * 2 + ["cat"] * 2
    assert rows.column("wnid").to_pylist() == [f"n0000000{i}" for i in (0, 0, 1, 1, 2, 2)]
    images = rows.column("image").combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(images, values().reshape(6, 3, 8, 8))


def test_the_same_content_gives_the_same_bytes() -> None:
    first = condensed_shard(values(), CLASSES, {"a": 1, "b": 2})
    assert bytes(first) == bytes(condensed_shard(values(), CLASSES, {"b": 2, "a": 1}))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 5)),
    names=st.lists(st.tuples(TEXTS, TEXTS), min_size=3, max_size=3),
    labels=st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=3),
    metadata=st.dictionaries(TEXTS, st.integers() | TEXTS | st.none(), max_size=3),
    special=st.sampled_from([0.0, 1.0, float("nan"), 1e-45]),
)
def test_round_trip_of_a_condensed_shard(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int, int],
    names: list[tuple[str, str]],
    labels: list[int],
    metadata: dict[str, Any],
    special: float,
) -> None:
    count, stored, channels, side = shape
    images = values(count, stored, channels, side)
    images[0, 0, 0, 0, 0] = special
    classes = [{"label": labels[i], "wnid": names[i][0], "name": names[i][1]} for i in range(count)]
    shard = condensed_shard(images, classes, metadata)
    assert parse_shard(shard, "shard").num_rows == count * stored
    path = str(tmp_path_factory.getbasetemp() / "round_trip.arrow")
    storage.write_bytes(path, shard)
    read = read_shard(path, {"file": "round_trip.arrow", "rows": count * stored, "sha256": storage.sha256(shard)})
    assert read.images.dtype == np.float32
    assert read.images.tobytes() == images.tobytes()
    assert read.labels.tolist() == [entry["label"] for entry in classes for _ in range(stored)]
    assert read.names == [entry["name"] for entry in classes for _ in range(stored)]
    assert read.ipc_index.tolist() == list(range(stored)) * count
    assert read.metadata == metadata


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match="not a complete Arrow file"):
        parse_shard(data, "shard")


# Sets that no run made


def result(**changes: Any) -> Condensed:
    """A condensed set as ``m3d.condense`` returns it, its classes in another order than their labels."""
    images = torch.rand(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {
        "images_KSCHW": images,
        "class_ids": (2, 0, 1),
        "factor": 2,
        "mean": (0.4,),
        "std": (0.2,),
    }
    return Condensed(**{**settings, **changes})


def test_a_result_is_saved_and_loaded(tmp_path: Path) -> None:
    condensed = result()
    save_condensed(condensed, str(tmp_path / "set"), ["ant", "bee", "cat"], name="insects")
    read = load_condensed(str(tmp_path / "set"))
    assert torch.equal(read.stored.images_KSCHW, condensed.images_KSCHW[[1, 2, 0]])
    assert read.classes == ["ant", "bee", "cat"]
    assert (read.stored.factor, read.mean, read.std) == (2, (0.4,), (0.2,))
    assert verify(str(tmp_path / "set"))[1] == []
    document = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert document["data"] == {"name": "insects", "licence": None, "source": "m3d.condense", "images": {}}


def test_a_large_set_has_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.formats.condensed_writer.SHARD_BYTES", 2 * 2 * 8 * 8 * 4)
    save_condensed(result(), str(tmp_path / "set"))
    assert sorted(path.name for path in (tmp_path / "set").glob("*.arrow")) == [
        "shard-00000.arrow",
        "shard-00001.arrow",
    ]
    assert verify(str(tmp_path / "set"))[1] == []


@pytest.mark.parametrize(
    ("condensed", "names", "message"),
    [
        (result(class_ids=(0, 1, 3)), None, "class_ids"),
        (result(), ["ant", "bee"], "class_names: given 2 different names, needed 3"),
        (result(), ["ant", "ant", "bee"], "class_names: given 2 different names, needed 3"),
        (result(images_KSCHW=torch.full((3, 2, 1, 8, 8), 1.5)), None, "outside of 0 to 1"),
    ],
)
def test_results_that_are_refused(tmp_path: Path, condensed: Condensed, names: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        save_condensed(condensed, str(tmp_path / "set"), names)
    assert not (tmp_path / "set").exists()
