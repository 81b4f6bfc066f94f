"""Parquet in the layout of the Hugging Face hub: an image column (struct of bytes and path, or bytes) and a label column.

PATH is a file, or a folder with the splits as folders or as prefixes of file names: train, and test or val. The class may
also be that of a folder, such as label=3. Only row groups that contain a wanted class are read, one at a time. Images
arrive in the order of their rows. In classes whose rows all have a path of their own, the rank of an image is its place
in the order of the paths.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import SplitFiles, described_test, labelled_test, root_of, split_files
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.parquet.columns import Choice, Columns, columns_of
from pipeline.data.sources.parquet.file import opened
from pipeline.data.sources.parquet.labels import (
    NO_CLASS,
    Classes,
    LabelEncoder,
    Labels,
    classes_of,
    folder_labels,
    left_out_rows,
    require_declared,
    require_one_kind,
)
from pipeline.data.sources.parquet.order import PathCollector, ranks_of
from pipeline.data.sources.parquet.sample import few_rows
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint
from pipeline.errors import UserError
from pipeline.storage.files import REQUESTS, File, in_threads


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a file without their images."""

    columns: Columns
    groups: list[int]
    """Rows of each row group."""
    labels: Labels | None
    """None for a file whose folder names its class, until all folders are known."""
    paths: pa.ChunkedArray | None
    """None if the file stores no paths."""

    @property
    def count(self) -> int:
        return sum(self.groups)


class Parquet:
    """Encoded images in Parquet files, streamed by row groups."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .parquet files, or one file", file=True)
        self._is_file = not storage.is_folder(self.root)
        self._choice = Choice(image=data.image_column, label=data.label_column)

    def index(self) -> SourceIndex:
        classes = self._classes
        nobody = np.zeros(len(classes.names), np.int64)
        counts = {
            split: tuple(sum((classes.counts(self._labels[file]) for file in files), nobody).tolist())
            for split, files in self._files.items()
        }
        states = [
            f"{split}/{_last_part(file.name)}:{file.state}:{self._rows[file].count}"
            for split, files in self._files.items()
            for file in files
        ]
        marks = sorted({mark for file in self._used for mark in self._rows[file].columns.marks})
        return SourceIndex(
            class_names=classes.names,
            counts=counts,
            fingerprint=fingerprint("parquet by path", *states, *classes.names, *marks),
            by_class=False,
            findings=self._findings(counts),
        )

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        files = self._files[split]
        wanted = {file: self._wanted_rows(file, labels) for file in files}
        ranks = ranks_of([(wanted[file], self._rows[file].paths) for file in files])
        if most is not None:
            wanted = few_rows(wanted, {file: self._rows[file].groups for file in files}, most)
        for file, own_ranks in zip(files, ranks, strict=True):
            for row, content, image_path in self._cells(file, wanted[file] >= 0):
                yield Item(
                    label=int(wanted[file][row]),
                    path=image_path or storage.readable(f"{_last_part(file.name)}[{row}]"),
                    content=content,
                    where=storage.readable(f"{self._path(file)}[{row}]"),
                    rank=int(own_ranks[row]) if own_ranks is not None and own_ranks[row] >= 0 else None,
                )

    def _wanted_rows(self, file: File, labels: Collection[int]) -> np.ndarray:
        """The class of each row, -1 for those of other classes."""
        rows = self._classes.of_rows(self._labels[file])
        rows[~np.isin(rows, list(labels))] = -1
        return rows

    def _cells(self, file: File, chosen: np.ndarray) -> Iterator[tuple[int, bytes, str | None]]:
        """Row number, image and path of the chosen rows; row groups without one are skipped."""
        if not chosen.any():
            return
        rows = self._rows[file]
        with opened(self._path(file)) as parquet:
            start = 0
            for group, count in enumerate(rows.groups):
                rows_of_group = chosen[start : start + count]
                if rows_of_group.any():
                    for row, content, image_path in parquet.images(rows.columns.image, group, rows_of_group):
                        yield start + row, content, image_path
                start += count

    def _findings(self, counts: dict[str, tuple[int, ...]]) -> Findings:
        """The rows of the files that are read, and the files and rows that are left out."""
        splits, unused = described_test(self._chosen, self._layout)
        tests = {file.name: self._labels[file] for file in self._files.get("test", ())}
        return Findings(
            unit="row",
            found=sum(self._rows[file].count for file in self._used),
            taken=sum(map(sum, counts.values())),
            left_out=(*self._layout.left_out, *unused, *left_out_rows(tests, self._classes)),
            splits=splits,
            columns=self._columns,
        )

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Which columns are read as what, in all files."""
        own = [self._rows[file].columns for file in self._used]
        return {
            "image": ", ".join(dict.fromkeys(columns.image for columns in own)),
            "label": ", ".join(dict.fromkeys(columns.label_origin for columns in own)),
        }

    @cached_property
    def _layout(self) -> SplitFiles:
        """The files of all splits."""
        if self._is_file:
            return SplitFiles(train=[_single_file(self.root)], tests={}, recognised={"train": "the file"}, left_out=[])
        files = split_files(self.root, (".parquet",), tables=True, label_key=self._choice.label)
        if not files.train:
            raise UserError(
                f"{self.root}: holds no .parquet files; data.source=parquet needs them in it, or a file as --data"
            )
        return files

    @cached_property
    def _chosen(self) -> str | None:
        """The split that is used for testing, test or val; None if there is none. Its rows are read, and no more."""
        train = self._layout.train

        def held(files: list[File]) -> list[str]:
            self._rows.update(self._read([file for file in files if file not in self._rows]))
            labels = self._labels_of([*train, *files])
            are_named = any(self._rows[file].columns.class_names for file in labels)
            values = {value for file in files for value in labels[file].values}
            return sorted(str(value) for value in values if not (are_named and value == NO_CLASS))

        tests = {kind: lambda files=files: held(files) for kind, files in self._layout.tests.items()}
        if not tests:
            return None
        try:
            return labelled_test(tests, held(train), self.root)
        except UserError:
            self._require_one_kind(self._labels_of(self._rows))  # the likely reason, if there is one
            raise

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        """The files that are read, by split."""
        tests = {"test": self._layout.tests[self._chosen]} if self._chosen else {}
        return {"train": self._layout.train, **tests}

    @property
    def _used(self) -> list[File]:
        """The files that are read."""
        return [file for files in self._files.values() for file in files]

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
        with opened(path) as parquet:
            columns = columns_of(parquet.schema, path, file.name, self._choice)
            labels = LabelEncoder(columns.kind, columns.label, path) if columns.label else None
            paths = PathCollector(parquet.size, path) if columns.has_paths else None
            compact = parquet.with_dictionaries(columns.besides_images)
            for group in range(len(parquet.group_rows)) if columns.besides_images else ():
                for batch in compact.besides_images(columns.besides_images, group):
                    if labels is not None:
                        labels.add(batch.column(batch.schema.get_field_index(columns.label)))
                    if paths is not None:
                        paths.add(batch.column(batch.schema.get_field_index(columns.image)).field("path"))
            return _Rows(
                columns=columns,
                groups=parquet.group_rows,
                labels=labels.finish() if labels is not None else None,
                paths=paths.finish() if paths is not None else None,
            )

    @cached_property
    def _labels(self) -> dict[File, Labels]:
        """The labels of the files that are read, of one type."""
        labels = self._labels_of(self._used)
        self._require_one_kind(labels)
        return labels

    def _labels_of(self, files: Iterable[File]) -> dict[File, Labels]:
        rows = {file: self._rows[file] for file in files}
        by_name = {file.name: file for file in rows}
        folders = {file.name: own.columns.folder for file, own in rows.items() if own.columns.folder}
        counts = {file.name: own.count for file, own in rows.items()}
        labels = {file: own.labels for file, own in rows.items() if own.labels is not None}
        return labels | {by_name[name]: own for name, own in folder_labels(folders, counts).items()}

    def _require_one_kind(self, labels: dict[File, Labels]) -> None:
        require_one_kind({self._path(file): own for file, own in labels.items()})

    @cached_property
    def _classes(self) -> Classes:
        tests = {self._path(file): self._labels[file] for file in self._files.get("test", ())}
        train = {self._path(file): self._labels[file] for file in self._files["train"]}
        declared = self._declared_names
        if declared:
            require_declared(train, declared)
            require_declared(tests, declared, or_none=True)
        return classes_of(train, declared, self.root)

    @cached_property
    def _declared_names(self) -> tuple[str, ...]:
        """The names of the classes by the hub's metadata, the same in all files that have them."""
        named = {self._path(file): self._rows[file].columns.class_names for file in self._used}
        named = {path: names for path, names in named.items() if names}
        if not named:
            return ()
        first, names = next(iter(named.items()))
        for path, others in named.items():
            if others != names:
                raise UserError(
                    f"the classes have other names, or another order, in {first} than in {path}; write both with the same names"
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
