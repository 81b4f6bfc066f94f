"""Confusion matrices: their cells that are not zero, and where documents keep them. No Ray here.

    OUT/evaluation/SHA256.arrow      the matrix of a row of evaluation.json
    OUT/comparison/SHA256.arrow      the matrix of a row of comparison.json
    OUT/networks/KEY-SEED.arrow      the matrix of a network whose row is incomplete

A matrix has as many cells as the square of the classes, but at most as many that are not zero as there are test images.
Documents list the matrices of up to ``LISTED_CLASSES`` classes and name a file for larger ones. So a document grows with
the classes, and a matrix is written once, however often its document is written again.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.condensed_reader import parse_shard
from pipeline.storage.documents import Document
from pipeline.storage.fields import FileName, Sha256
from pipeline.storage.local.local_files import require_no_link

SUFFIX = ".arrow"
NAME = r"^[0-9a-f-]+\.arrow$"
"""What the name of a matrix's file looks like: no folder, and nothing that another file is called."""
SCHEMA = pa.schema([("label", pa.int32()), ("predicted", pa.int32()), ("count", pa.int64())])
"""Columns of a file: a cell of the matrix per row, by rising label and predicted label."""


class MatrixFile(Document):
    """The file of a matrix, as a document names it."""

    file: Annotated[FileName, StringConstraints(pattern=NAME)]
    classes: Annotated[int, Field(strict=True, ge=1, lt=2**31)]
    rows: Annotated[int, Field(strict=True, ge=0)]
    """Cells that are not zero."""
    sha256: Sha256


class StoredMatrix(TypedDict):
    """The keys of a document that hold a matrix: one of them, or none if the matrix is not stored."""

    confusion: NotRequired[list[list[int]]]
    """Test images by their class (outer list) and by the class that they are predicted as (inner list)."""
    confusion_file: NotRequired[MatrixFile]


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """Numbers of test images by their class and by the class that they are predicted as."""

    classes: int
    cells: np.ndarray
    """``class * classes + predicted class`` of every cell that is not zero, rising, int64."""
    counts: np.ndarray
    """Test images in those cells, int64."""

    @classmethod
    def of(cls, lines: np.ndarray | Sequence[Sequence[int]]) -> Self:
        """The matrix with a line per class. Raises ValueError if it is not a square of counts."""
        matrix = np.asarray(lines)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "iu" or matrix.min() < 0:
            raise ValueError("not a square of counts")
        flat = matrix.reshape(-1).astype(np.int64, copy=False)
        cells = np.flatnonzero(flat)
        return cls(classes=len(matrix), cells=cells, counts=flat[cells])

    @classmethod
    def total(cls, matrices: Iterable["Confusion"]) -> Self:
        """The sum of matrices of the same classes, at least one."""
        parts = list(matrices)
        cells, places = np.unique(np.concatenate([part.cells for part in parts]), return_inverse=True)
        counts = np.zeros(len(cells), np.int64)
        np.add.at(counts, places, np.concatenate([part.counts for part in parts]))
        return cls(classes=parts[0].classes, cells=cells, counts=counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Confusion) or self.classes != other.classes:
            return False
        return np.array_equal(self.cells, other.cells) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @property
    def labels(self) -> np.ndarray:
        """The class of the test images in every cell."""
        return self.cells // self.classes

    @property
    def predicted(self) -> np.ndarray:
        """The class that they are predicted as."""
        return self.cells % self.classes

    def lines(self) -> list[list[int]]:
        """The complete matrix, a line per class."""
        return self.blocks(self.classes).tolist()

    def blocks(self, most: int) -> np.ndarray:
        """The complete matrix [n, n]; with more than ``most`` classes, neighbouring classes are added up to ``most`` blocks."""
        side = min(most, self.classes)
        matrix = np.zeros((side, side), np.int64)
        np.add.at(matrix, (self.labels * side // self.classes, self.predicted * side // self.classes), self.counts)
        return matrix

    def per_class(self) -> list[float]:
        """Accuracy of every class in percent, in label order: the diagonal over the sum of its line."""
        right = self.labels == self.predicted
        totals = np.zeros(self.classes, np.int64)
        hits = np.zeros(self.classes, np.int64)
        np.add.at(totals, self.labels, self.counts)
        np.add.at(hits, self.labels[right], self.counts[right])
        return [100 * hit / max(1, total) for hit, total in zip(hits.tolist(), totals.tolist(), strict=True)]


def is_listed(classes: int) -> bool:
    """Whether documents list the matrices of so many classes; those of more classes are in files."""
    return classes <= LISTED_CLASSES


def stored_matrix(confusion: Confusion, folder: str | None, name: str = "") -> StoredMatrix:
    """Returns the keys of a document for a matrix. Writes the file of one that is too large for a document.

    Args:
        confusion: the matrix.
        folder: where its file is written, before the document that names it; None stores no large matrix.
        name: name of the file without its ending. Defaults to its checksum.
    """
    if is_listed(confusion.classes):
        return {"confusion": confusion.lines()}
    if folder is None:
        return {}
    data = _file(confusion)
    checksum = storage.sha256(data)
    file = f"{name or checksum}{SUFFIX}"
    storage.write_bytes(storage.join(folder, file), data)
    return {
        "confusion_file": MatrixFile(file=file, classes=confusion.classes, rows=len(confusion.cells), sha256=checksum)
    }


def read_matrix(stored: StoredMatrix, folder: str, origin: str) -> Confusion | None:
    """Returns the matrix that a document holds or names; None if it has none.

    Args:
        stored: keys of the document, checked by its type.
        folder: where the files of the document's matrices are.
        origin: the document, for messages.

    Raises:
        UserError: the file is missing or damaged, its folder is a link, or the matrix is not a square of counts.
    """
    entry = stored.get("confusion_file")
    if entry is None:
        lines = stored.get("confusion")
        try:
            return Confusion.of(lines) if lines else None
        except (ValueError, OverflowError):
            raise UserError(f"{origin}: is damaged (a confusion matrix is not a square of counts)") from None
    require_no_link(folder)
    path = storage.join(folder, entry["file"])
    advice = "restore it, or delete the row's document and evaluate again"
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: is named by {origin} but does not exist; {advice}") from None
    if storage.sha256(data) != entry["sha256"]:
        raise UserError(f"{path}: its checksum is not the one in {origin}, the file is damaged; {advice}")
    return _parsed(data, entry, path)


def sweep_matrices(folder: str, named: Iterable[MatrixFile]) -> None:
    """Removes the files of matrices that no document names any more; call it after the document is written.

    A folder that is a link is left alone: what it leads to is not of this run.
    """
    if storage.is_local(folder) and Path(folder).is_symlink():
        return
    keep = {entry["file"] for entry in named}
    for name in storage.files_below(folder, SUFFIX):
        if name not in keep and re.fullmatch(NAME, name):
            storage.remove(storage.join(folder, name))


def _file(confusion: Confusion) -> memoryview:
    sink = pa.BufferOutputStream()
    columns = [
        pa.array(confusion.labels, pa.int32()),
        pa.array(confusion.predicted, pa.int32()),
        pa.array(confusion.counts, pa.int64()),
    ]
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
    return memoryview(sink.getvalue())


def _parsed(data: bytes, entry: MatrixFile, path: str) -> Confusion:
    """The matrix in an Arrow file. Raises UserError if it is not what the entry says."""
    table, classes = parse_shard(data, path), entry["classes"]
    if not table.schema.equals(SCHEMA) or any(column.null_count for column in table.columns):
        raise UserError(f"{path}: is not a confusion matrix (columns {', '.join(table.column_names)})")
    labels, predicted, counts = (table.column(name).to_numpy().astype(np.int64) for name in SCHEMA.names)
    cells = labels * classes + predicted
    inside = all(bool(((part >= 0) & (part < classes)).all()) for part in (labels, predicted))
    if len(cells) != entry["rows"] or not inside or (np.diff(cells) <= 0).any() or (counts <= 0).any():
        raise UserError(f"{path}: does not hold {entry['rows']} cells of a confusion matrix of {classes} classes")
    return Confusion(classes=classes, cells=cells, counts=counts)
