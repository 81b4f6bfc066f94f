"""Columns of Parquet: which hold images and labels, how classes are named, and messages for what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.run_config import Data
from pipeline.data.sources import open_source
from pipeline.data.sources.parquet.columns import Choice, columns_of
from tests.pipeline.support.parquet import LABELS, NAMES, STRUCT, contents, hub, is_read_in_order, write_parquet
from tests.pipeline.support.settings import refusal as settings_refusal
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


MASKS = pa.array([{"bytes": b"mask", "path": None}] * 7, STRUCT)
"""A column that holds bytes, but not the images."""


def features(**types: str) -> dict[bytes, bytes]:
    """Schema metadata of the hub, by the type of each column."""
    declared = {name: {"_type": kind} for name, kind in types.items()}
    return {b"huggingface": json.dumps({"info": {"features": declared}}).encode()}


@pytest.mark.parametrize("image", ["image", "img", "Image", "IMG"])
@pytest.mark.parametrize("structs", [True, False])
@pytest.mark.parametrize("metadata", [None, features(mask="Image"), features(image="Image", mask="Image")])
def test_the_column_called_image_is_read(
    tmp_path: Path, image: str, structs: bool, metadata: dict[bytes, bytes] | None
) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        image=image,
        structs=structs,
        metadata=metadata,
        before={"mask": MASKS, "md5": [b"x"] * 7},
    )
    assert is_read_in_order(path)
    assert index_of("parquet", path).findings.columns == {"image": image, "label": "label"}


def test_several_image_columns_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", image="photo", before={"depth": MASKS, "md5": pa.array([b"x" * 16] * 7)}
    )
    message = refusal("parquet", path)
    assert "the images may be in depth or md5 or photo; choose one with data.image_column" in message
    source = open_source(Data(source="parquet", path=str(path), image_column="photo"))
    assert [item.content for item in source.read("train", [0])] == [contents()[1], contents()[4]]
    assert "data.image_column='fotos' is no column of images" in refusal("parquet", path, image_column="fotos")
    assert "did you mean 'photo'?" in refusal("parquet", path, image_column="phot")
    assert "is no column of images" in refusal("parquet", path, image_column="label")


def test_two_columns_called_image_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", before={"Image": MASKS, "img": MASKS})
    assert "the images may be in Image or img or image; choose one" in refusal("parquet", path)


def test_a_hash_of_fixed_size_is_no_image(tmp_path: Path) -> None:
    digests = pa.array([bytes(16)] * 7, pa.binary(16))
    assert is_read_in_order(write_parquet(tmp_path / "a.parquet", image="photo", before={"md5": digests}))


def test_the_only_column_of_integers_is_taken_and_reported(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", label="species", before={"name": ["x"] * 7})
    assert index_of("parquet", path).findings.columns["label"] == "species (the only column of integers)"
    assert is_read_in_order(path)


def test_several_columns_of_integers_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", label="species", before={"width": [9] * 7})
    assert "the labels may be in width or species; choose one with data.label_column" in refusal("parquet", path)
    index = index_of("parquet", path, label_column="species")
    assert index.counts == {"train": (2, 2, 3)}
    assert index.findings.columns["label"] == "species"
    assert "did you mean 'species'?" in refusal("parquet", path, label_column="specie")


@pytest.mark.parametrize(
    ("types", "either"),
    [
        ({"scene": "ClassLabel"}, "scene or label"),
        ({"scene": "ClassLabel", "place": "ClassLabel"}, "scene or place or label"),
    ],
)
def test_a_declared_label_beside_one_called_label(tmp_path: Path, types: dict[str, str], either: str) -> None:
    before = {name: [1] * 7 for name in types}
    path = write_parquet(tmp_path / "a.parquet", before=before, metadata=features(**types))
    assert f"the labels may be in {either}; choose one with data.label_column" in refusal("parquet", path)


def test_a_declared_label_called_label_is_preferred_to_other_declared_ones(tmp_path: Path) -> None:
    metadata = features(scene="ClassLabel", label="ClassLabel")
    assert is_read_in_order(write_parquet(tmp_path / "a.parquet", before={"scene": [1] * 7}, metadata=metadata))


def test_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array(contents()), pa.array(LABELS), pa.array(LABELS)], ["image", "label", "label"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert "several columns called label" in refusal("parquet", tmp_path)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"info": {"features": []}}', b'{"info": {"features": {"label": 3}}}', b"\xff"]
)
def test_metadata_of_another_form_are_ignored(tmp_path: Path, text: bytes) -> None:
    assert is_read_in_order(write_parquet(tmp_path / "a.parquet", metadata={b"huggingface": text}))


@pytest.mark.parametrize("name", [3, "", "a" * 1001])
def test_a_declared_class_without_a_usable_name(tmp_path: Path, name: object) -> None:
    text = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["ant", name]}}}}).encode()
    message = refusal("parquet", write_parquet(tmp_path / "a.parquet", metadata={b"huggingface": text}))
    assert "its metadata name a class" in message
    assert len(message) < 400 + len(str(tmp_path))


def test_the_columns_are_part_of_the_fingerprint_where_they_differ_from_the_first(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", image="photo", before={"depth": MASKS, "width": [i % 3 for i in range(7)]}
    )
    choices = [("photo", "label"), ("photo", "width"), ("depth", "label"), ("depth", "width")]
    prints = {index_of("parquet", path, image_column=image, label_column=label).fingerprint for image, label in choices}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("columns", "metadata"),
    [
        (("image", "label"), None),
        (
            ("img", "fine_label", "coarse_label"),
            features(img="Image", fine_label="ClassLabel", coarse_label="ClassLabel"),
        ),
        (("photo", "species"), features(photo="Image", species="ClassLabel")),
        (("photo", "width"), None),
        (("image", "label", "category"), None),
    ],
)
def test_the_fingerprint_of_ordinary_columns_does_not_name_them(
    columns: tuple[str, ...], metadata: dict[bytes, bytes] | None
) -> None:
    schema = pa.schema(
        [(name, STRUCT if name in ("image", "img", "photo") else pa.int64()) for name in columns], metadata
    )
    chosen = columns_of(schema, "a.parquet", "a.parquet", Choice())
    assert (chosen.image, chosen.label) == columns[:2]
    assert chosen.marks == ()


def test_other_sources_have_no_columns() -> None:
    assert "data.label_column" in settings_refusal("data.source=digits", "data.label_column=label")
    assert "data.image_column" in settings_refusal("data.source=image_folder", "data.image_column=image")


def test_rows_without_a_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0, None, 1]))
    assert "1 rows have no label" in refusal("parquet", path)
