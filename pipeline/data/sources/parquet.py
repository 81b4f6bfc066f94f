"""Parquet in the hub's layout: an image column (struct of bytes and path, or bytes) and a label column.

PATH is a file, or a folder with the splits as folders or as prefixes of file names: train, and test or val; the class
may also be that of a folder, such as label=3. Of each
file the row groups that hold a wanted class are read, one at a time. Images come in the order of their rows; their
rank is the order of their paths, in classes whose rows all have a path of their own.
"""

import contextlib
import json
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
from pipeline.data.sources.file_layout import root_of, splits
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint
from pipeline.errors import UserError, listed
from pipeline.storage.files import REQUESTS, File, files_in, in_threads, open_binary

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "cls")
READ_ROWS = 256
"""Rows that are held at once."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a file without their images."""

    groups: list[int]
    """Rows of each row group."""
    image: str
    """Name of the image column."""
    labels: list[Any]
    paths: list[str | None] | None
    """None where the file keeps no paths."""


class Parquet:
    """Encoded images in Parquet files, streamed by row groups."""

    def __init__(self, data: Data, known: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .parquet files, or one file", file=True)
        self._alone = not storage.is_folder(self.root)

    def index(self) -> SourceIndex:
        counts = {
            split: tuple(self._counts[split].get(value, 0) for value in self._label_values) for split in self._files
        }
        described = [
            f"{split}/{file.name.rsplit('/', 1)[-1]}:{file.state}:{len(self._rows[file].labels)}"
            for split, files in self._files.items()
            for file in files
        ]
        return SourceIndex(
            class_names=self._class_names,
            counts=counts,
            fingerprint=fingerprint("parquet by path", *described, *self._class_names),
            by_class=False,
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        wanted = {self._label_values[label]: label for label in labels}
        ranks = self._ranks(split, wanted)
        for file in self._files[split]:
            place, short, rows = self._place(file), file.name.rsplit("/", 1)[-1], self._rows[file]
            if not any(value in wanted for value in rows.labels):
                continue
            with _opened(place) as held:
                row = 0
                for group, count in enumerate(rows.groups):
                    if not any(value in wanted for value in rows.labels[row : row + count]):
                        row += count
                        continue
                    for batch in _batches(held, place, [rows.image], group):
                        column = batch.column(0)
                        for i in range(len(column)):
                            value = rows.labels[row]
                            if value in wanted:
                                content, name = _content(column[i].as_py())
                                yield Item(
                                    label=wanted[value],
                                    path=name or f"{short}[{row}]",
                                    content=content,
                                    where=f"{place}[{row}]",
                                    rank=ranks.get((file.name, row)),
                                )
                            row += 1

    def _ranks(self, split: str, wanted: dict[Any, int]) -> dict[tuple[str, int], int]:
        """The place of each row in the order of its class's paths, for classes whose rows are not in that order.

        A class whose rows do not all have a path of their own keeps the order of its rows.
        """
        held: dict[Any, list[tuple[str, str, int]]] = {value: [] for value in wanted}
        for file in self._files[split]:
            rows = self._rows[file]
            for row, value in enumerate(rows.labels):
                if value in held:
                    held[value].append(((rows.paths[row] or "") if rows.paths is not None else "", file.name, row))
        found: dict[tuple[str, int], int] = {}
        for rows in held.values():
            paths = {path for path, _, _ in rows}
            if "" not in paths and len(paths) == len(rows) and rows != (ordered := sorted(rows)):
                found |= {(file, row): rank for rank, (_, file, row) in enumerate(ordered)}
        return found

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        if self._alone:
            return {"train": [_alone(self.root)]}
        files = {file.name: file for file in files_in(self.root, (".parquet",))}
        if not files:
            raise UserError(
                f"{self.root}: holds no .parquet files; data.source=parquet needs them in it, or a file as --data"
            )
        return {split: [files[name] for name in names] for split, names in splits(list(files)).items()}

    def _place(self, file: File) -> str:
        return self.root if self._alone else storage.join(self.root, file.name)

    @cached_property
    def _rows(self) -> dict[File, _Rows]:
        files = [file for held in self._files.values() for file in held]
        threads = 1 if storage.is_local(self.root) else REQUESTS
        return dict(in_threads(files, self._rows_of, threads))

    def _rows_of(self, file: File) -> _Rows:
        place = self._place(file)
        image, label = self._columns(file)
        with _opened(place) as held:
            has_paths = _has_paths(held.schema_arrow.field(image).type)
            columns = [*([f"{image}.path"] if has_paths else []), *([label] if label else [])]
            groups = [held.metadata.row_group(i).num_rows for i in range(held.num_row_groups)]
            labels: list[Any] = []
            paths: list[str | None] = []
            for group in range(len(groups) if columns else 0):
                for batch in _batches(held, place, columns, group):
                    if label:
                        labels += batch.column(batch.schema.get_field_index(label)).to_pylist()
                    if has_paths:
                        column = batch.column(batch.schema.get_field_index(image))
                        paths += [(value or {}).get("path") for value in column.to_pylist()]
        labels = labels if label else [_partition(file.name)] * sum(groups)
        return _Rows(groups=groups, image=image, labels=labels, paths=paths if has_paths else None)

    def _columns(self, file: File) -> tuple[str, str | None]:
        """Names of the image and the label column of a file; no label column where its folder says the class."""
        path = self._place(file)
        with _opened(path) as held:
            schema = held.schema_arrow
        features = _features(schema)
        declared_images = [f.name for f in schema if features.get(f.name, {}).get("_type") == "Image"]
        images = declared_images or [f.name for f in schema if _holds_bytes(f.type)]
        if not images:
            raise UserError(
                f"{path}: has no image column (bytes, or a struct of bytes and path); found {_described(schema)}"
            )
        declared = [f.name for f in schema if features.get(f.name, {}).get("_type") == "ClassLabel"]
        usual = [name for name in LABEL_NAMES if name in schema.names and _is_label(schema.field(name).type)]
        labels = declared or usual or [f.name for f in schema if pa.types.is_integer(f.type)][:1]
        if not usual and not declared and _partition(file.name) is not None:
            return images[0], None
        if not labels:
            raise UserError(
                f"{path}: has no label column ({', '.join(LABEL_NAMES)}, or any integers); found {_described(schema)}"
            )
        fine = next((name for name in labels if name.startswith("fine")), labels[0])
        return images[0], fine

    @cached_property
    def _counts(self) -> dict[str, Counter[Any]]:
        found = {
            split: Counter(value for file in files for value in self._rows[file].labels)
            for split, files in self._files.items()
        }
        if not found["train"]:
            raise UserError(f"{self.root}: its training files hold no rows")
        if None in found["train"]:
            raise UserError(f"{self.root}: {found['train'][None]} rows have no label; drop them first")
        return found

    @cached_property
    def _label_values(self) -> list[Any]:
        """What stands in the label column for each class, in label order."""
        names = self._declared_names
        return list(range(len(names))) if names else sorted(self._counts["train"])

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(self._declared_names or map(str, self._label_values))

    @cached_property
    def _declared_names(self) -> list[str]:
        path = self._place(self._files["train"][0])
        _, label = self._columns(self._files["train"][0])
        with _opened(path) as held:
            names = _features(held.schema_arrow).get(label or "", {}).get("names", [])
        strays = [
            value
            for value in self._counts["train"]
            if names and not (isinstance(value, int) and 0 <= value < len(names))
        ]
        if strays:
            raise UserError(
                f"{path}: column {label!r} holds {listed(map(str, strays))}, outside its {len(names)} named classes"
            )
        return list(names)


def _alone(path: str) -> File:
    """A single file as the whole source."""
    name = path.rsplit("/", 1)[-1]
    if storage.is_local(path):
        state = os.stat(path)
        return File(name=name, state=f"{state.st_size}:{state.st_mtime_ns}")
    return File(name=name, state=f"{storage.size_of(path)}:{storage.version_of(path)}")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    remote = not storage.is_local(path)
    try:
        # What is needed of a row group is asked of an object store in few large ranges.
        held = pq.ParquetFile(open_binary(path) if remote else path, pre_buffer=remote)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a whole Parquet file ({error})") from None
    with held:
        yield held


def _batches(held: pq.ParquetFile, path: str, columns: list[str], group: int) -> Iterator[pa.RecordBatch]:
    try:
        yield from held.iter_batches(batch_size=READ_ROWS, row_groups=[group], columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]}); fetch it again") from None


def _partition(name: str) -> int | str | None:
    """The class that a folder such as ``label=3`` gives to the files below it."""
    for part in name.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key in LABEL_NAMES:
            return int(value) if value.isdecimal() else value
    return None


def _has_paths(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(field.name == "path" for field in kind)


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _described(schema: pa.Schema) -> str:
    return listed(f"{field.name} ({field.type})" for field in schema)


def _content(value: Any) -> tuple[bytes, str | None]:
    if isinstance(value, dict):
        content, name = value.get("bytes"), value.get("path")
    else:
        content, name = value, None
    return content or b"", name
