"""Parquet in the layout of the Hugging Face hub: an image column (struct of bytes and path, or bytes) and a label column.

PATH is a file, or a folder with the splits as folders or as prefixes of file names: train, and test or val. The class may
also be that of a folder, such as label=3. Only row groups that contain a wanted class are read, one at a time. Images
arrive in the order of their rows. In classes whose rows all have a path of their own, the rank of an image is its place
in the order of the paths.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import (
    SplitFiles,
    described_test,
    in_label_order,
    labelled_test,
    root_of,
    split_files,
)
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.parquet_columns import Columns, class_of_folder, columns_of
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint
from pipeline.errors import UserError, listed
from pipeline.storage.files import REQUESTS, File, in_threads, open_binary

READ_ROWS = 256
"""Rows that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a file without their images."""

    columns: Columns
    groups: list[int]
    """Rows of each row group."""
    labels: list[Any]
    paths: list[str | None] | None
    """None if the file stores no paths."""


class Parquet:
    """Encoded images in Parquet files, streamed by row groups."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .parquet files, or one file", file=True)
        self._is_file = not storage.is_folder(self.root)

    def index(self) -> SourceIndex:
        counts = {
            split: tuple(self._counts[split].get(value, 0) for value in self._label_values) for split in self._files
        }
        states = [
            f"{split}/{_last_part(file.name)}:{file.state}:{len(self._rows[file].labels)}"
            for split, files in self._files.items()
            for file in files
        ]
        return SourceIndex(
            class_names=self._class_names,
            counts=counts,
            fingerprint=fingerprint("parquet by path", *states, *self._class_names),
            by_class=False,
            findings=self._findings(counts),
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        wanted = {self._label_values[label]: label for label in labels}
        ranks = self._ranks(split, wanted)
        for file in self._files[split]:
            path, rows = self._path(file), self._rows[file]
            if not any(value in wanted for value in rows.labels):
                continue
            for row, cell in _wanted_cells(path, rows, wanted):
                content, image_path = _content(cell)
                yield Item(
                    label=wanted[rows.labels[row]],
                    path=image_path or storage.readable(f"{_last_part(file.name)}[{row}]"),
                    content=content,
                    where=storage.readable(f"{path}[{row}]"),
                    rank=ranks.get((file.name, row)),
                )

    def _ranks(self, split: str, wanted: dict[Any, int]) -> dict[tuple[str, int], int]:
        """The place of each row in the order of its class's paths, for classes whose rows are in another order.

        A class whose rows do not all have a path of their own keeps the order of its rows.
        """
        by_class: dict[Any, list[tuple[str, str, int]]] = {value: [] for value in wanted}
        for file in self._files[split]:
            rows = self._rows[file]
            for row, value in enumerate(rows.labels):
                if value in by_class:
                    by_class[value].append(((rows.paths[row] or "") if rows.paths is not None else "", file.name, row))
        ranks: dict[tuple[str, int], int] = {}
        for places in by_class.values():
            paths = {path for path, _, _ in places}
            if "" not in paths and len(paths) == len(places) and places != (ordered := sorted(places)):
                ranks |= {(file, row): rank for rank, (_, file, row) in enumerate(ordered)}
        return ranks

    def _findings(self, counts: dict[str, tuple[int, ...]]) -> Findings:
        """The rows of the files that are read, and the files that are left out."""
        splits, unused = described_test(self._chosen, self._layout)
        return Findings(
            found=sum(len(self._rows[file].labels) for files in self._files.values() for file in files),
            taken=sum(map(sum, counts.values())),
            left_out=(*self._layout.left_out, *unused),
            splits=splits,
        )

    @cached_property
    def _layout(self) -> SplitFiles:
        """The files of all splits."""
        if self._is_file:
            return SplitFiles(train=[_single_file(self.root)], tests={}, recognised={"train": "the file"}, left_out=[])
        files = split_files(self.root, (".parquet",), tables=True)
        if not files.train:
            raise UserError(
                f"{self.root}: holds no .parquet files; data.source=parquet needs them in it, or a file as --data"
            )
        return files

    @cached_property
    def _chosen(self) -> str | None:
        """The split that is used for testing, test or val; None if there is none. Its rows are read, and no more."""

        def held(files: list[File]) -> list[str]:
            self._rows.update(self._read([file for file in files if file not in self._rows]))
            values = {value for file in files for value in self._rows[file].labels}
            return sorted(str(value) for value in values if value is not None)

        tests = {kind: lambda files=files: held(files) for kind, files in self._layout.tests.items()}
        return labelled_test(tests, held(self._layout.train), self.root) if tests else None

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        """The files that are read, by split."""
        tests = {"test": self._layout.tests[self._chosen]} if self._chosen else {}
        return {"train": self._layout.train, **tests}

    def _path(self, file: File) -> str:
        return self.root if self._is_file else storage.join(self.root, file.name)

    @cached_property
    def _rows(self) -> dict[File, _Rows]:
        """The rows of the training files, and of the files for testing once ``_chosen`` has decided on them."""
        return self._read(self._layout.train)

    def _read(self, files: list[File]) -> dict[File, _Rows]:
        threads = 1 if storage.is_local(self.root) else REQUESTS
        return dict(in_threads(files, self._rows_of, threads))

    def _rows_of(self, file: File) -> _Rows:
        path = self._path(file)
        columns = self._columns(file)
        labels: list[Any] = []
        paths: list[str | None] = []
        with _opened(path) as parquet:
            groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
            for group in range(len(groups) if columns.besides_images else 0):
                for batch in _batches(parquet, path, columns.besides_images, group):
                    if columns.label:
                        labels += batch.column(batch.schema.get_field_index(columns.label)).to_pylist()
                    if columns.has_paths:
                        cells = batch.column(batch.schema.get_field_index(columns.image))
                        paths += [(cell or {}).get("path") for cell in cells.to_pylist()]
        if not columns.label:
            labels = [class_of_folder(file.name)] * sum(groups)
        return _Rows(columns=columns, groups=groups, labels=labels, paths=paths if columns.has_paths else None)

    def _columns(self, file: File) -> Columns:
        path = self._path(file)
        with _opened(path) as parquet:
            return columns_of(parquet.schema_arrow, path, file.name)

    @cached_property
    def _counts(self) -> dict[str, Counter[Any]]:
        counts = {
            split: Counter(value for file in files for value in self._rows[file].labels)
            for split, files in self._files.items()
        }
        if not counts["train"]:
            raise UserError(f"{self.root}: its training files hold no rows")
        if None in counts["train"]:
            raise UserError(f"{self.root}: {counts['train'][None]} rows have no label; drop them first")
        return counts

    @cached_property
    def _label_values(self) -> list[Any]:
        """Values of the label column for each class, in label order."""
        names = self._declared_names
        return list(range(len(names))) if names else in_label_order(self._counts["train"])

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(self._declared_names or map(str, self._label_values))

    @cached_property
    def _declared_names(self) -> tuple[str, ...]:
        first = self._files["train"][0]
        columns = self._rows[first].columns
        names = columns.class_names
        strays = [
            value
            for value in self._counts["train"]
            if names and not (isinstance(value, int) and 0 <= value < len(names))
        ]
        if strays:
            raise UserError(
                f"{self._path(first)}: column {columns.label!r} holds {listed(map(str, strays))}, outside its {len(names)} named classes"
            )
        return names


def _single_file(path: str) -> File:
    """A file that is the complete source."""
    if storage.is_local(path):
        state = os.stat(path)
        return File(name=_last_part(path), state=f"{state.st_size}:{state.st_mtime_ns}")
    return File(name=_last_part(path), state=f"{storage.size_of(path)}:{storage.version_of(path)}")


def _last_part(path: str) -> str:
    return path.rsplit("/", 1)[-1]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    remote = not storage.is_local(path)
    try:
        # With pre_buffer, Arrow asks an object store for a few large ranges of a row group.
        opened = open_binary(path) if remote or path != storage.readable(path) else path  # Arrow's paths are UTF-8
        parquet = pq.ParquetFile(opened, pre_buffer=remote)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a complete Parquet file ({error})") from None
    with parquet:
        yield parquet


def _batches(parquet: pq.ParquetFile, path: str, columns: list[str], group: int) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(batch_size=READ_ROWS, row_groups=[group], columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]}); fetch it again") from None


def _wanted_cells(path: str, rows: _Rows, wanted: Collection[Any]) -> Iterator[tuple[int, Any]]:
    """Row numbers and image cells of the rows whose label is wanted; row groups without one are skipped."""
    with _opened(path) as parquet:
        row = 0
        for group, count in enumerate(rows.groups):
            if not any(value in wanted for value in rows.labels[row : row + count]):
                row += count
                continue
            for batch in _batches(parquet, path, [rows.columns.image], group):
                column = batch.column(0)
                for i in range(len(column)):
                    if rows.labels[row] in wanted:
                        yield row, column[i].as_py()
                    row += 1


def _content(cell: Any) -> tuple[bytes, str | None]:
    """Bytes and path of an image cell."""
    if isinstance(cell, dict):
        content, path = cell.get("bytes"), cell.get("path")
    else:
        content, path = cell, None
    return content or b"", path
