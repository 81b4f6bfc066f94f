"""One Parquet file: its row groups, read in batches whose memory is bounded by what the footer says of them.

Parquet stores repeated values once, so a small file may claim any number of rows, and a few rows may be many times as
large as the file. What is kept for every row is therefore compared with the size of the file before it is read.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError, first_line
from pipeline.storage.files import open_binary

READ_ROWS = 256
"""Most rows with images that are in memory at once."""
BATCH_BYTES = 256 * 2**20
"""Bytes of images that are in memory at once, unless a single one is larger."""
SMALL_IMAGE_BYTES, LARGE_IMAGE_BYTES = 1024, 64 * 2**20
"""Bytes of a row below which an image may be repeated, and the size that it is then taken to have at most."""
LABEL_ROWS = 65_536
"""Rows of labels and paths that are in memory at once, before they are encoded."""
FEW_ROWS = 100_000
"""Number of rows that a file of any size may have; more need at least a byte each."""
BUFFER_BYTES = 2**20
"""Bytes of a local file that are read at once."""
REASON_LENGTH = 200
"""Most characters of a reason of Arrow's."""


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """An opened file."""

    path: str
    size: int
    """Bytes of the file."""
    schema: pa.Schema
    _parquet: pq.ParquetFile
    _source: object

    @property
    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        metadata = self._parquet.metadata
        return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]

    def with_dictionaries(self, columns: list[str]) -> "ParquetFile":
        """The same file; texts in these columns are read as the file encodes them, repeated ones once."""
        return replace(self, _parquet=_parquet(self._source, self._parquet.metadata, columns))

    def images(self, column: str, group: int, chosen: np.ndarray) -> Iterator[tuple[int, bytes, str | None]]:
        """Yields rows of a row group: position, encoded image and path. No bytes where there is no image.

        Args:
            column: name of the image column.
            group: number of the row group.
            chosen: for each of its rows, whether to yield it.

        Raises:
            UserError: the file is damaged.
        """
        row = 0
        for batch in self._batches([column], group, self._rows_at_once(group)):
            cells = batch.column(batch.schema.get_field_index(column))
            cells = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
            for i in np.flatnonzero(chosen[row : row + len(cells)]).tolist():
                yield row + i, *_content(cells, i)
            row += len(cells)

    def besides_images(self, columns: list[str], group: int) -> Iterator[pa.RecordBatch]:
        """Yields columns of labels and paths of a row group. Raises UserError like ``images``."""
        return self._batches(columns, group, LABEL_ROWS)

    def _batches(self, columns: list[str], group: int, rows: int) -> Iterator[pa.RecordBatch]:
        missing = self.group_rows[group]
        with _read_errors(self.path, "is damaged", "fetch it again"):
            for batch in self._parquet.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                missing -= len(batch)
                yield batch
        if missing:
            raise UserError(f"{self.path}: is damaged (row group {group} has other rows than it says); fetch it again")

    def _rows_at_once(self, group: int) -> int:
        """Rows of a row group with images that are read at once.

        Rows of few bytes may all repeat one large image, which is stored once. Only sums over the row group are used, as
        Arrow ends the process if the footer's statistics of a column are damaged.
        """
        metadata = self._parquet.metadata.row_group(group)
        per_row = metadata.total_byte_size / max(1, metadata.num_rows)
        if per_row < SMALL_IMAGE_BYTES:
            per_row = min(metadata.total_byte_size, LARGE_IMAGE_BYTES)
        return int(min(READ_ROWS, max(1, BATCH_BYTES // max(1, per_row))))


def dictionary_of(values: pa.Array, path: str) -> pa.DictionaryArray:
    """Returns a column of a file with each of its values once. Raises UserError if it refers to values that are not there."""
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if len(indices) and not -1 <= indices.min() <= indices.max() < len(encoded.dictionary):
        raise UserError(f"{path}: is damaged (a dictionary lacks values); fetch it again")
    return encoded


@contextlib.contextmanager
def opened(path: str) -> Iterator[ParquetFile]:
    """Opens a local file or an object.

    Raises:
        UserError: it is no Parquet file, or claims more rows than its size allows.
    """
    remote = not storage.is_local(path)
    if not remote and os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path}: is not a file; data.source=parquet reads regular files only")
    with contextlib.ExitStack() as stack:
        with _read_errors(path, "is not a complete Parquet file"):
            as_file = remote or path != storage.readable(path)  # Arrow's paths are UTF-8
            source = stack.enter_context(open_binary(path)) if as_file else path
            parquet = stack.enter_context(_parquet(source, None, []))
            size = source.seek(0, os.SEEK_END) if not isinstance(source, str) else os.path.getsize(path)
            file = ParquetFile(path=path, size=size, schema=parquet.schema_arrow, _parquet=parquet, _source=source)
            _ = file.schema.names, file.group_rows  # names that are no text raise here
        _require_plausible(file)
        yield file


def _parquet(source: object, metadata: pq.FileMetaData | None, dictionaries: Collection[str]) -> pq.ParquetFile:
    remote = not isinstance(source, str)
    # With pre_buffer, Arrow asks an object store for a few large ranges of a row group. A buffer reads a local column in
    # pieces instead of as a whole.
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        pre_buffer=remote,
        buffer_size=0 if remote else BUFFER_BYTES,
    )


def _require_plausible(file: ParquetFile) -> None:
    groups = file.group_rows
    if min(groups, default=0) < 0:
        raise UserError(f"{file.path}: is damaged (a row group of {min(groups)} rows); fetch it again")
    if sum(groups) > max(FEW_ROWS, file.size):
        raise UserError(
            f"{file.path}: has {sum(groups)} rows in {file.size} bytes, less than a byte for an image and its label; "
            "it is damaged, or repeats a few images"
        )


@contextlib.contextmanager
def _read_errors(path: str, what: str, advice: str = "") -> Iterator[None]:
    """Turns Arrow's errors into one line."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise UserError(
            f"{path}: needs more memory than there is; write it again with smaller row groups and pages"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        text = f"{path}: {what} ({first_line(error)[:REASON_LENGTH]})"
        raise UserError(f"{text}; {advice}" if advice else text) from None


def _content(cells: pa.Array, i: int) -> tuple[bytes, str | None]:
    """Bytes and path of an image cell; no bytes if it is null."""
    if not isinstance(cells, pa.StructArray):
        return cells[i].as_py() or b"", None
    if not cells[i].is_valid:
        return b"", None
    names = [field.name for field in cells.type]
    try:
        path = cells.field("path")[i].as_py() if "path" in names else None
    except UnicodeDecodeError:
        path = None
    return cells.field("bytes")[i].as_py() or b"", path if isinstance(path, str) else None
