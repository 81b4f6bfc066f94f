"""Condensed shards: the schema, round trips, and what a reader refuses."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from m3d import decode
from pipeline import storage
from pipeline.data.class_shard_writer import ClassShard
from pipeline.errors import UserError
from pipeline.formats.condensed_reader import load_condensed, parse_shard, read_manifest, read_shard
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.storage.documents import sealed

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CLASSES = [{"label": i, "wnid": f"n0000000{i}", "name": name} for i, name in enumerate(("ant", "bee", "cat"))]
STORED = 2


def values(classes: int = 3, stored: int = STORED, channels: int = 3, side: int = 8, seed: int = 0) -> np.ndarray:
    """float32 [K, S, C, H, W] in [0, 1]."""
    return np.random.default_rng(seed).random((classes, stored, channels, side, side), np.float32)


def write_set(folder: Path, groups: tuple[tuple[int, ...], ...] = ((0, 1), (2,)), **changes: Any) -> Path:
    """A condensed set of three classes as the pipeline leaves it."""
    images, entries = values(), []
    for number, group in enumerate(groups):
        shard = condensed_shard(images[list(group)], [CLASSES[label] for label in group], {"format_version": 1})
        name = f"shard-{number:05d}.arrow"
        storage.write_bytes(str(folder / name), shard)
        entries.append({"file": name, "rows": STORED * len(group), "sha256": storage.sha256(shard)})
    manifest = {
        "format_version": 1,
        "shards": entries,
        "classes": CLASSES,
        "images_per_class": STORED,
        "factor": 2,
        "shape": [3, 8, 8],
        "mean": MEAN,
        "std": STD,
    }
    storage.write_json(str(folder / "manifest.json"), sealed({**manifest, **changes}))
    return folder


def change_manifest(folder: Path, change: Any) -> None:
    """Applies a function to the parsed manifest and seals it again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(sealed(manifest)))


# Schema


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
    held = table()
    assert held.column("label").to_pylist() == [0, 0, 1, 1, 2, 2]
    assert held.column("ipc_index").to_pylist() == [0, 1] * 3
    assert held.column("class_name").to_pylist() == ["ant"] * 2 + ["bee"] * 2 + ["cat"] * 2
    assert held.column("wnid").to_pylist() == [f"n0000000{i}" for i in (0, 0, 1, 1, 2, 2)]
    images = held.column("image").combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(images, values().reshape(6, 3, 8, 8))


def test_the_same_content_gives_the_same_bytes() -> None:
    first = condensed_shard(values(), CLASSES, {"a": 1, "b": 2})
    assert bytes(first) == bytes(condensed_shard(values(), CLASSES, {"b": 2, "a": 1}))


# Round trips

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
    held = read_shard(path, {"file": "round_trip.arrow", "rows": count * stored, "sha256": storage.sha256(shard)})
    assert held.images.dtype == np.float32
    assert held.images.tobytes() == images.tobytes()
    assert held.labels.tolist() == [entry["label"] for entry in classes for _ in range(stored)]
    assert held.names == [entry["name"] for entry in classes for _ in range(stored)]
    assert held.ipc_index.tolist() == list(range(stored)) * count
    assert held.metadata == metadata


@given(
    count=st.integers(0, 4),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 5),
    most=st.integers(1, 200),
    paths=st.data(),
)
def test_round_trip_of_a_class_shard(
    tmp_path_factory: pytest.TempPathFactory, count: int, channels: int, side: int, most: int, paths: st.DataObject
) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    texts = paths.draw(st.lists(TEXTS, min_size=count, max_size=count))
    path = tmp_path_factory.mktemp("shard") / "class.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.class_shard_writer.BATCH_BYTES", most)
        shard = ClassShard(str(path), (channels, side, side))
        for image, text in zip(images, texts, strict=True):
            shard.add(image, text)
        assert not path.exists()
        assert shard.commit() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in path.parent.iterdir()] == ["class.arrow"]
    held = parse_shard(path.read_bytes(), "shard")
    assert held.column("path").to_pylist() == texts
    if count:
        np.testing.assert_array_equal(held.column("image").combine_chunks().to_numpy_ndarray(), images)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_shard_or_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match="not a whole Arrow file"):
        parse_shard(data, "shard")


# Reading a set


@pytest.mark.parametrize("inner", [".", "condensed"])
def test_load(tmp_path: Path, inner: str) -> None:
    write_set(tmp_path / inner)
    held = load_condensed(str(tmp_path), decode=False, normalise=False)
    assert torch.equal(held.images, torch.from_numpy(values().reshape(6, 3, 8, 8)))
    assert held.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert held.labels.dtype == torch.int64
    assert held.class_names == ["ant", "bee", "cat"]
    assert (held.mean, held.std) == (tuple(MEAN), tuple(STD))
    image, label = held[3]
    assert torch.equal(image, held.images[3])
    assert (len(held), label) == (6, 1)


def test_load_from_a_data_loader(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader(load_condensed(str(write_set(tmp_path))), batch_size=5)
    assert [tuple(images.shape) for images, _ in loader] == [(5, 3, 8, 8)] * 4 + [(4, 3, 8, 8)]


def test_decode(tmp_path: Path) -> None:
    held = load_condensed(str(write_set(tmp_path)), normalise=False)
    assert tuple(held.images.shape) == (24, 3, 8, 8)
    assert held.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    expected = decode(torch.from_numpy(values()[1]), 2)
    assert sorted(map(bytes, expected.numpy())) == sorted(map(bytes, held.images[held.labels == 1].numpy()))


@pytest.mark.parametrize("decoded", [True, False])
def test_normalise(tmp_path: Path, decoded: bool) -> None:
    write_set(tmp_path)
    plain = load_condensed(str(tmp_path), decode=decoded, normalise=False)
    normal = load_condensed(str(tmp_path), decode=decoded)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normal.images, (plain.images - mean) / std)
    assert normal.images.dtype == torch.float32


@pytest.mark.parametrize("groups", [((2,), (0, 1)), ((2, 0), (1,)), ((1,), (2,), (0,)), ((2, 1, 0),)])
def test_shards_in_any_order_give_class_order(tmp_path: Path, groups: tuple[tuple[int, ...], ...]) -> None:
    held = load_condensed(str(write_set(tmp_path, groups)), decode=False, normalise=False)
    assert held.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(held.images, torch.from_numpy(values().reshape(6, 3, 8, 8)))


def test_without_a_manifest(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no finished condensed set \(no manifest\.json\)"):
        load_condensed(str(tmp_path))


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_condensed(str(tmp_path / "absent"))


def test_checksum_is_off(tmp_path: Path) -> None:
    path = write_set(tmp_path) / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"shard-00001\.arrow.*checksum"):
        load_condensed(str(tmp_path))


def test_missing_shard(tmp_path: Path) -> None:
    (write_set(tmp_path) / "shard-00000.arrow").unlink()
    with pytest.raises(UserError, match=r"shard-00000\.arrow.*does not exist"):
        load_condensed(str(tmp_path))


def test_rows_are_not_those_of_the_manifest(tmp_path: Path) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest["shards"][0].update(rows=5))
    with pytest.raises(UserError, match="has 4 rows, the manifest says 5"):
        load_condensed(str(tmp_path))


def test_a_shard_too_few_or_twice(tmp_path: Path) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest["shards"].pop())
    with pytest.raises(UserError, match="does not hold 2 images of each of 3 classes"):
        load_condensed(str(tmp_path))
    change_manifest(tmp_path, lambda manifest: manifest["shards"].append(manifest["shards"][0]))
    with pytest.raises(UserError, match="does not hold 2 images of each of 3 classes"):
        load_condensed(str(tmp_path))


@pytest.mark.parametrize(
    "key", ["format_version", "shards", "classes", "images_per_class", "factor", "shape", "mean", "std"]
)
def test_manifest_that_lacks_a_key(tmp_path: Path, key: str) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest.pop(key))
    with pytest.raises(UserError, match=rf"manifest\.json.*\b{key}\b"):
        load_condensed(str(tmp_path))


def test_manifest_that_was_changed_by_hand(tmp_path: Path) -> None:
    path = write_set(tmp_path) / "manifest.json"
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(UserError, match=r"manifest\.json.*checksum"):
        load_condensed(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '"text"'])
def test_manifest_that_is_none(tmp_path: Path, content: str) -> None:
    (write_set(tmp_path) / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [{"shards": []}, {"shards": [{}]}, {"shards": [{"file": "shard-00000.arrow"}]}, {"classes": []}, {"shards": 3}],
    ids=str,
)
def test_manifest_whose_shards_are_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    write_set(tmp_path, **damage)
    with pytest.raises(UserError) as caught:
        load_condensed(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_newer_format(tmp_path: Path) -> None:
    write_set(tmp_path, format_version=2)
    with pytest.raises(UserError, match="has format 2, this version reads 1; update"):
        load_condensed(str(tmp_path))


def test_load_condensed_is_exported() -> None:
    assert pipeline.load_condensed is load_condensed
    assert {"load_condensed", "CondensedDataset"} <= set(pipeline.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        pipeline.nothing_such  # noqa: B018


def test_loading_does_not_import_ray(tmp_path: Path) -> None:
    write_set(tmp_path)
    code = (
        "import sys, pipeline; held = pipeline.load_condensed(sys.argv[1]);"
        "print(len(held), sorted(m for m in sys.modules if m.split('.')[0] in ('ray', 'sklearn', 'torchvision')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "24 []"
