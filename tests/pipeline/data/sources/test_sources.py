"""Sources: classes, counts and order, and sentences for what does not fit."""

import gzip
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.run_config import Data
from pipeline.data.class_names import leading_wnid
from pipeline.data.sources import SourceIndex, open_source
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, number_of, picture, write_folder


def index_of(source: Any, path: Path | None, **settings: Any) -> SourceIndex:
    """The index of a source."""
    return open_source(Data(source=source, path=None if path is None else str(path), **settings)).index()


def read_all(source: Any, path: Path | None, split: str = "train", labels: Sequence[int] | None = None) -> list[Any]:
    """The items of a source in its order; of all classes where none are given."""
    opened = open_source(Data(source=source, path=None if path is None else str(path)))
    return list(opened.read(split, range(len(opened.index().class_names)) if labels is None else labels))


def refusal(source: Any, path: Path | None, **settings: Any) -> str:
    """The message for a source that does not fit."""
    with pytest.raises(UserError) as caught:
        index_of(source, path, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# digits


def test_digits() -> None:
    index = index_of("digits", None)
    assert index.class_names == tuple("0123456789")
    assert set(index.counts) == {"train"}
    assert sum(index.counts["train"]) == 1797
    assert index.counts["train"][0] == 178
    items = read_all("digits", None, labels=[3])
    assert len(items) == index.counts["train"][3]
    assert {item.label for item in items} == {3}
    assert items[0].content.dtype == np.uint8
    assert items[0].content.shape == (8, 8)
    assert max(item.content.max() for item in items) == 255
    assert min(item.content.min() for item in items) == 0


# image_folder


def test_folder(folder: Path) -> None:
    index = index_of("image_folder", folder)
    assert index.class_names == ("ant", "bee", "cat")
    assert index.counts == {"train": (12, 12, 12), "test": (4, 4, 4)}
    items = read_all("image_folder", folder, "test", [1])
    assert [item.path for item in items] == [f"test/bee/{i:03d}.png" for i in range(4)]
    assert [item.content for item in items] == [encoded(picture(number_of("test", 1, i))) for i in range(4)]


@pytest.mark.parametrize(
    ("splits", "used"),
    [
        (("train", "val"), ("train", "val")),
        (("train", "test"), ("train", "test")),
        (("train", "test", "val"), ("train", "test")),
        (("Train", "validation"), ("Train", "validation")),
        (("train",), ("train",)),
        (("",), ("",)),
    ],
)
def test_splits_of_a_folder(tmp_path: Path, splits: tuple[str, ...], used: tuple[str, ...]) -> None:
    write_folder(tmp_path, {split: 2 + i for i, split in enumerate(splits)})
    counts: dict[str, tuple[int, ...]] = {"train": (2, 2, 2)}
    if len(used) > 1:
        counts["test"] = (2 + splits.index(used[1]),) * 3
    assert index_of("image_folder", tmp_path).counts == counts
    for split, name in zip(counts, used, strict=True):
        first = read_all("image_folder", tmp_path, split)[0].path
        assert first == f"{name}/ant/000.png".removeprefix("/")


def test_a_class_that_is_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 2}, classes=("car", "train", "truck"))
    assert index_of("image_folder", tmp_path).class_names == ("car", "train", "truck")


def test_nested_hidden_and_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 1}, classes=("ant",))
    deep = write_folder(tmp_path / "ant", {"": 2}, classes=("deeper",)) / "deeper"
    (deep / "photo.JPEG").write_bytes(encoded(picture(5), "JPEG"))
    for name in ("readme.txt", "ant/notes.txt", "ant/.hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    write_folder(tmp_path, {"": 1}, classes=(".cache",))
    assert index_of("image_folder", tmp_path).class_names == ("ant",)
    assert [item.path for item in read_all("image_folder", tmp_path)] == [
        "ant/000.png",
        "ant/deeper/000.png",
        "ant/deeper/001.png",
        "ant/deeper/photo.JPEG",
    ]


def test_an_empty_class_folder_is_no_class(folder: Path) -> None:
    (folder / "train" / "aaa").mkdir()
    assert index_of("image_folder", folder).class_names == ("ant", "bee", "cat")


def test_a_class_without_test_images_is_counted(folder: Path) -> None:
    write_folder(folder, {"train": 1}, classes=("dog",))
    assert index_of("image_folder", folder).counts["test"] == (4, 4, 4, 0)


def test_folder_changes_its_fingerprint(folder: Path) -> None:
    before = index_of("image_folder", folder).fingerprint
    assert index_of("image_folder", folder).fingerprint == before
    (folder / "train" / "ant" / "new.png").write_bytes(encoded(picture(9)))
    assert index_of("image_folder", folder).fingerprint != before


def test_folder_is_the_same_elsewhere(folder: Path, tmp_path: Path) -> None:
    before = index_of("image_folder", folder).fingerprint
    folder.rename(tmp_path / "moved")
    assert index_of("image_folder", tmp_path / "moved").fingerprint == before


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "ant").mkdir(parents=True)
    assert str(tmp_path / "train") in refusal("image_folder", tmp_path)
    assert "CLASS/*" in refusal("image_folder", tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}: holds no images" in refusal("image_folder", tmp_path)


@pytest.mark.parametrize("source", ["image_folder", "parquet"])
def test_path_that_does_not_exist(tmp_path: Path, source: str) -> None:
    assert f"{tmp_path / 'absent'}: does not exist" in refusal(source, tmp_path / "absent")


@pytest.mark.parametrize("source", ["image_folder", "parquet", "torchvision"])
def test_path_that_is_not_given(source: str) -> None:
    assert "--data" in refusal(source, None, name="MNIST")


def test_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal("image_folder", tmp_path / "file")


@pytest.mark.parametrize(("name", "wnid"), [("n01440764", "n01440764"), ("n1", ""), ("dog", ""), ("n014407640", "")])
def test_wnid(name: str, wnid: str) -> None:
    assert leading_wnid(name) == wnid


# parquet

LABELS = [1, 0, 2, 1, 0, 2, 2]
NAMES = ["ant", "bee", "cat"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def contents(count: int = len(LABELS), first: int = 0) -> list[bytes]:
    """Encoded images."""
    return [encoded(picture(first + i)) for i in range(count)]


def hub(image: str = "image", label: str = "label") -> dict[bytes, bytes]:
    """Schema metadata as Hugging Face datasets writes it."""
    features = {image: {"_type": "Image"}, label: {"names": NAMES, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write_parquet(
    path: Path,
    labels: pa.Array | Sequence[Any] = LABELS,
    *,
    image: str = "image",
    label: str = "label",
    structs: bool = True,
    metadata: dict[bytes, bytes] | None = None,
    before: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A Parquet file of images."""
    encoded_images = contents(len(labels))
    cells = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(encoded_images)]
    column = pa.array(cells, STRUCT) if structs else pa.array(encoded_images, pa.binary())
    table = pa.table({**(before or {}), image: column, label: labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


def is_read_in_order(path: Path) -> bool:
    """Whether every class has its own images, in the order of the rows."""
    images = contents()
    items = read_all("parquet", path)
    return [(item.label, item.content) for item in items] == list(zip(LABELS, images, strict=True))


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("photo", "species")])
def test_parquet_of_the_hub(tmp_path: Path, image: str, label: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", image=image, label=label, metadata=hub(image, label), row_group_size=3)
    index = index_of("parquet", path)
    assert index.class_names == ("ant", "bee", "cat")
    assert index.counts == {"train": (2, 2, 3)}
    assert is_read_in_order(path)
    assert [item.path for item in read_all("parquet", path, labels=[1])] == ["0.png", "3.png"]


@pytest.mark.parametrize("held", [1, 2, 256])
def test_parquet_of_plain_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr("pipeline.data.sources.parquet.READ_ROWS", held)
    path = write_parquet(tmp_path / "a.parquet", structs=False)
    assert index_of("parquet", path).class_names == ("0", "1", "2")
    assert is_read_in_order(path)
    assert [item.path for item in read_all("parquet", path)] == [f"a.parquet[{i}]" for i in range(len(LABELS))]


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


def test_no_image_column_says_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [0], "url": ["x"]}), tmp_path / "a.parquet")
    told = refusal("parquet", tmp_path)
    assert "no image column" in told
    assert "label (int64), url (string)" in told


def test_no_label_column_says_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": contents(1), "score": [0.5]}), tmp_path / "a.parquet")
    told = refusal("parquet", tmp_path)
    assert "no label column" in told
    assert "image (binary), score (double)" in told


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0, 99, 100]])
def test_labels_outside_the_named_classes(tmp_path: Path, labels: list[int]) -> None:
    told = refusal("parquet", write_parquet(tmp_path / "a.parquet", labels, metadata=hub()))
    assert "outside its 3 named classes" in told
    assert all(str(label) in told for label in labels if label not in range(3))
    assert "'label'" in told


def test_rows_without_a_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0, None, 1]))
    assert "1 rows have no label" in refusal("parquet", path)


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
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-40], "text": b"no parquet at all", "empty": b""}[damage])
    assert f"{path}: is not a whole Parquet file" in refusal("parquet", path)


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_damage_inside_of_parquet(tmp_path: Path, compression: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", structs=False, compression=compression, use_dictionary=False)
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet"):
        read_all("parquet", path)


# torchvision


def write_mnist(root: Path, counts: dict[str, int] | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST's own files of a few made-up images; returns pixels and labels."""
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        count = (counts or {"train": 20, "test": 10})[split]
        images = np.stack([picture(number_of(split, 0, i), 28, 28, 1) for i in range(count)])
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, kind, array in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
            content = struct.pack(">HBB", 0, 8, kind) + struct.pack(f">{kind}I", *array.shape) + array.tobytes()
            (raw / f"{prefix}-{name}-ubyte").write_bytes(content)
            (raw / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
        made[split] = images, labels
    return made


def test_mnist(tmp_path: Path) -> None:
    made = write_mnist(tmp_path)
    index = index_of("torchvision", tmp_path, name="MNIST")
    assert len(index.class_names) == 10
    assert index.class_names[3] == "3 - three"
    assert index.counts == {"train": (2,) * 10, "test": (1,) * 10}
    items = list(open_source(Data(source="torchvision", name="MNIST", path=str(tmp_path))).read("train", [4, 1]))
    assert [item.label for item in items] == [1, 4, 1, 4]
    for item, i in zip(items, (1, 4, 11, 14), strict=True):
        np.testing.assert_array_equal(item.content, made["train"][0][i])
        assert item.path == f"MNIST/train[{i}]"


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100"])
def test_missing_root_says_how_to_download(tmp_path: Path, name: str) -> None:
    told = refusal("torchvision", tmp_path / "absent", name=name)
    assert str(tmp_path / "absent") in told
    assert name in told
    assert "data.download=true" in told


def test_damaged_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    assert "damaged" in refusal("torchvision", tmp_path, name="MNIST")


@pytest.mark.parametrize(("name", "near"), [("CIFAR", "CIFAR10"), ("mnist", "MNIST"), (None, "allowed")])
def test_unknown_torchvision_name(tmp_path: Path, name: str | None, near: str) -> None:
    assert near in refusal("torchvision", tmp_path, name=name)
