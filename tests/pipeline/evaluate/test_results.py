"""evaluation.json."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.evaluate.results import confusion_of, read_rows, row_of, write_rows
from pipeline.evaluate.rows import EvaluationRow, request_of
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.confusion_matrix import Confusion
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from tests.pipeline.support.rows import measured_row, network_score, stored_row
from tests.pipeline.support.runs import small_config

LARGE = LISTED_CLASSES + 50
"""A number of classes whose matrices are in files."""


def large_matrix(seed: int, classes: int = LARGE) -> Confusion:
    """The matrix of a network that predicts everything right but for one class."""
    matrix = np.eye(classes, dtype=np.int64) * 50
    matrix[seed, (seed + 1) % classes] = 1
    return Confusion.of(matrix)


def large_row(folder: RunFolder, architecture: str, seed: int, classes: int = LARGE) -> EvaluationRow:
    """A row of many classes, whose matrix is written."""
    score = replace(network_score([1, 0], [0, 1]), confusion=large_matrix(seed, classes))
    request = request_of(small_config(), "condensed", architecture, classes=classes)
    return row_of(request, {0: score}, images_per_class=1, images=classes, matrices=folder.matrices)


def test_a_row_has_everything(tmp_path: Path) -> None:
    config, folder = small_config("evaluate.best_epoch=5"), RunFolder.at(tmp_path)
    scores = {1: network_score([3, 1], [2, 2], best=70.0), 0: network_score([4, 0], [1, 3], best=90.0)}
    row: Any = measured_row(config, "condensed", scores, classes=2, condensed_set="s")
    assert row["seeds"] == [0, 1]
    assert row["accuracies"] == [87.5, 62.5]
    assert row["confusion"] == [[7, 1], [3, 5]]
    assert row["per_class"] == [87.5, 62.5]
    assert row["mean"] == 75.0
    assert row["interval95"] == pytest.approx([75 - 12.7062 * 12.5, 75 + 12.7062 * 12.5], rel=1e-4)
    assert row["best_epoch_compatibility"]["mean"] == 80.0
    assert row["training"]["learning_rate"] == 0.01
    assert row["training"]["augment"]["strategy"] == "color_crop_scale_rotate"
    assert (row["epoch"], row["augmentation"], row["labels"]) == ("last", "protocol", "hard")
    write_rows(folder, [row])
    assert read_rows(folder) == [row]
    lines = (tmp_path / "evaluation.json").read_text().splitlines()
    assert sum("[7, 1]" in line for line in lines) == 1  # a line per class


def test_rows_with_and_without_augmentation_are_kept_side_by_side(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    write_rows(folder, [stored_row("condensed", 60.0), stored_row("condensed", 50.0, augmentation="none")])
    write_rows(folder, [stored_row("condensed", 61.0)])
    assert [row["mean"] for row in read_rows(folder)] == [50.0, 61.0]


def test_rows_replace_those_with_the_same_key(tmp_path: Path) -> None:
    def row(name: str, mean: float) -> EvaluationRow:
        values = {"set": name, "architecture": "convnet3", "protocol": "idc", "on": "test", "mean": mean}
        return cast(EvaluationRow, values)

    folder = RunFolder.at(tmp_path)
    write_rows(folder, [row("condensed", 1), row("random", 2)])
    write_rows(folder, [row("condensed", 3)])
    assert [(r["set"], r["mean"]) for r in read_rows(folder)] == [("random", 2), ("condensed", 3)]


@pytest.mark.parametrize(
    "document",
    [
        {"results": 3},
        [],
        {"results": [3]},
        {"results": [{"set": "condensed"}]},
        {"results": [{"set": "condensed", "mean": "high"}]},
        {"results": [{"set": "condensed", "mean": 1, "seeds": "many"}]},
        {"results": [{"set": "condensed", "mean": 1, "confusion": [[1, "x"]]}]},
        {"results": [{"set": "condensed", "mean": 1, "confusion_file": {"file": "../../x.arrow"}}]},
        {"results": [], "chfcksum": "of a flipped bit"},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused(tmp_path: Path, document: object) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"evaluation\.json: is damaged") as caught:
        read_rows(RunFolder.at(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_the_file_is_sealed(tmp_path: Path) -> None:
    folder, path = RunFolder.at(tmp_path), tmp_path / "evaluation.json"
    write_rows(folder, [stored_row("condensed", 60.0)])
    document = json.loads(path.read_text())
    assert document == sealed(document)
    assert list(document) == ["results", "scores", "checksum"]
    path.write_text(path.read_text().replace("60.0", "61.0"))
    for use in (lambda: read_rows(folder), lambda: write_rows(folder, [])):
        with pytest.raises(UserError, match=r"evaluation\.json: is damaged or was changed by hand") as caught:
            use()
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_of_an_older_version_has_no_checksum_until_it_is_written_again(tmp_path: Path) -> None:
    folder, path = RunFolder.at(tmp_path), tmp_path / "evaluation.json"
    path.write_text(json.dumps({"results": [stored_row("condensed", 60.0)], "scores": []}))
    (row,) = read_rows(folder)
    assert row["mean"] == 60.0
    write_rows(folder, [stored_row("random", 50.0)])
    document = json.loads(path.read_text())
    assert document == sealed(document)
    assert [row["set"] for row in read_rows(folder)] == ["condensed", "random"]


def test_a_large_matrix_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    write_rows(folder, [large_row(folder, "convnet1", 0), large_row(folder, "convnet2", 1)])
    first, second = read_rows(folder)
    assert "confusion" not in first
    assert len(first.get("per_class", ())) == LARGE
    assert (confusion_of(first, folder), confusion_of(second, folder)) == (large_matrix(0), large_matrix(1))
    write_rows(folder, [large_row(folder, "convnet1", 2)])  # its file replaces that of the row before
    assert [confusion_of(row, folder) for row in read_rows(folder)] == [large_matrix(1), large_matrix(2)]
    assert len(list((tmp_path / "evaluation").iterdir())) == 2


def test_large_matrices_of_an_older_version_leave_the_document_at_the_next_write(tmp_path: Path) -> None:
    folder, path = RunFolder.at(tmp_path), tmp_path / "evaluation.json"
    old = stored_row("condensed", 60.0, confusion=large_matrix(3).lines())
    path.write_text(json.dumps({"results": [old], "scores": []}))
    (row,) = read_rows(folder)
    assert confusion_of(row, folder) == large_matrix(3)
    write_rows(folder, [stored_row("random", 50.0)])
    assert path.stat().st_size < 10_000
    row, _ = read_rows(folder)
    assert "confusion" not in row
    assert confusion_of(row, folder) == large_matrix(3)


def test_a_row_costs_the_same_however_many_were_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1,000 classes the document grew by 3 MB a row, and was written again for each."""
    folder, written, write = RunFolder.at(tmp_path), [], storage.write_bytes

    def counted(path: str, data: bytes | memoryview) -> None:
        written.append(len(data))
        write(path, data)

    monkeypatch.setattr(storage, "write_bytes", counted)
    matrices: list[int] = []
    documents: list[int] = []
    for number in range(6):
        write_rows(folder, [large_row(folder, f"convnet{number + 1}", number)])
        matrix, document = written
        matrices.append(matrix)
        documents.append(document)
        written.clear()
    assert len(set(matrices)) == 1
    grown = {later - before for before, later in pairwise(documents)}
    assert max(grown) < 2500 + 8 * LARGE  # a row's settings, and an accuracy per class; the matrix has LARGE**2 cells
