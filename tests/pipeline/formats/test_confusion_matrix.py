"""Confusion matrices: sums, accuracies, and documents that list small ones and name the files of large ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.confusion_matrix import SCHEMA, Confusion, MatrixFile, read_matrix, stored_matrix, sweep_matrices
from pipeline.storage.documents import checked

LARGE = LISTED_CLASSES + 1
RANDOM = np.random.default_rng(0)


def counts(classes: int, seed: int = 0, images: int = 400) -> np.ndarray:
    """A matrix of some test images at random places."""
    places = np.random.default_rng(seed).integers(0, classes, (2, images))
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, tuple(places), 1)
    return matrix


def table_of(**columns: list[Any]) -> bytes:
    """An Arrow file with columns of a matrix's schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=SCHEMA))
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("classes", [1, 2, 7, LARGE])
def test_a_matrix_has_every_count(classes: int) -> None:
    matrix = counts(classes)
    confusion = Confusion.of(matrix)
    assert confusion.lines() == matrix.tolist()
    expected = [100 * matrix[k, k] / max(1, matrix[k].sum()) for k in range(classes)]
    assert confusion.per_class() == pytest.approx(expected)
    assert len(confusion.cells) == np.count_nonzero(matrix)


def test_matrices_are_added_up() -> None:
    parts = [counts(9, seed) for seed in range(3)]
    assert Confusion.total(map(Confusion.of, parts)) == Confusion.of(np.sum(parts, axis=0))
    assert Confusion.of([[1, 0], [0, 1]]) != Confusion.of([[1, 0], [0, 2]])


def test_neighbouring_classes_are_added_up_to_blocks() -> None:
    matrix = counts(10)
    blocks = Confusion.of(matrix).blocks(5)
    assert blocks.tolist() == matrix.reshape(5, 2, 5, 2).sum((1, 3)).tolist()
    assert Confusion.of(matrix).blocks(100).tolist() == matrix.tolist()


@pytest.mark.parametrize("lines", [[[1, 2]], [1, 2], [[1, 2], [3]], [[1, -1], [0, 0]], [[0.5]], [["1"]], [[2**80]]])
def test_other_lists_are_no_matrix(tmp_path: Path, lines: Any) -> None:
    with pytest.raises(UserError, match=r"^here: is damaged \(a confusion matrix"):
        read_matrix({"confusion": lines}, str(tmp_path), "here")


def test_a_document_lists_a_small_matrix_and_names_the_file_of_a_large_one(tmp_path: Path) -> None:
    small, large = Confusion.of(counts(LISTED_CLASSES)), Confusion.of(counts(LARGE))
    assert stored_matrix(small, str(tmp_path)) == {"confusion": small.lines()}
    stored = stored_matrix(large, str(tmp_path))
    assert stored.keys() == {"confusion_file"}
    (path,) = tmp_path.iterdir()
    assert path.name == f"{storage.sha256(path.read_bytes())}.arrow"
    again = json.loads(json.dumps(stored))
    assert read_matrix(again, str(tmp_path), "here") == large
    assert stored_matrix(large, None) == {}
    assert read_matrix({}, str(tmp_path), "here") is None


def test_the_file_is_read_by_plain_pyarrow(tmp_path: Path) -> None:
    matrix = counts(LARGE)
    stored_matrix(Confusion.of(matrix), str(tmp_path), "0a-3")
    table = pa.ipc.open_file(tmp_path / "0a-3.arrow").read_all()
    labels, predicted = (table.column(name).to_numpy() for name in ("label", "predicted"))
    assert table.column("count").to_numpy().tolist() == matrix[labels, predicted].tolist()
    assert table.column("count").to_numpy().sum() == matrix.sum()


def test_a_file_is_as_large_as_the_test_images_at_most(tmp_path: Path) -> None:
    cells = np.unique(RANDOM.integers(0, 21_841**2, 50_000))
    stored_matrix(Confusion(classes=21_841, cells=cells, counts=np.ones_like(cells)), str(tmp_path))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 50_000 * 16 + 2000


@pytest.mark.parametrize("damage", ["missing", "flipped", "empty"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    stored: Any = stored_matrix(Confusion.of(counts(LARGE)), str(tmp_path))
    path = tmp_path / stored["confusion_file"]["file"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else b"")
    with pytest.raises(UserError, match=path.name) as caught:
        read_matrix(stored, str(tmp_path), "here")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"label": [0], "predicted": [3], "count": [1]},
        {"label": [-1], "predicted": [0], "count": [1]},
        {"label": [1, 0], "predicted": [0, 0], "count": [1, 1]},
        {"label": [0, 0], "predicted": [1, 1], "count": [1, 1]},
        {"label": [0], "predicted": [0], "count": [0]},
        {"label": [0], "predicted": [0], "count": [None]},
        {"label": [], "predicted": [], "count": []},
    ],
    ids=str,
)
def test_a_file_of_other_content_is_refused(tmp_path: Path, columns: Any) -> None:
    data = table_of(**columns)
    (tmp_path / "a.arrow").write_bytes(data)
    rows = max(1, len(columns["label"]))
    entry: Any = {"file": "a.arrow", "classes": 3, "rows": rows, "sha256": storage.sha256(data)}
    with pytest.raises(UserError, match=r"a\.arrow: (does not hold|is not a confusion matrix)"):
        read_matrix({"confusion_file": entry}, str(tmp_path), "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../a.arrow"},
        {"file": "/etc/passwd"},
        {"file": "a.arrow\n"},
        {"file": "https://b.arrow"},
        {"classes": 2**31},
        {"classes": 0},
        {"rows": -1},
        {"sha256": "../../x"},
    ],
    ids=str,
)
def test_an_entry_names_a_file_of_its_own_folder(changes: dict[str, object]) -> None:
    entry = {"file": "0a.arrow", "classes": 3, "rows": 1, "sha256": "0" * 64}
    assert checked(MatrixFile, entry, "here")
    with pytest.raises(UserError, match=r"^here: is damaged"):
        checked(MatrixFile, {**entry, **changes}, "here")


def test_only_files_that_no_document_names_are_removed(tmp_path: Path) -> None:
    first, second = (stored_matrix(Confusion.of(counts(LARGE, seed)), str(tmp_path)) for seed in (1, 2))
    for name in ("notes.txt", "my matrix.arrow"):
        (tmp_path / name).touch()
    sweep_matrices(str(tmp_path), [entry for stored in (first,) if (entry := stored.get("confusion_file"))])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "my matrix.arrow", *[s["file"] for s in (first.get("confusion_file"),) if s]}
    assert (second.get("confusion_file") or {"file": ""})["file"] not in names
    sweep_matrices(str(tmp_path / "absent"), [])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluation").symlink_to(tmp_path)
    sweep_matrices(str(tmp_path / "run" / "evaluation"), [])
    assert {path.name for path in tmp_path.iterdir()} == {*names, "run"}


def test_a_matrix_is_not_read_through_a_link(tmp_path: Path) -> None:
    stored = stored_matrix(Confusion.of(counts(LARGE)), str(tmp_path / "elsewhere"))
    (tmp_path / "evaluation").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="evaluation: is a link, which may lead out of the folder"):
        read_matrix(stored, str(tmp_path / "evaluation"), "evaluation.json")
