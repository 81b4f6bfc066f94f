"""Parquet in the hub's layout: an image column (struct of bytes and path, or bytes) and a label column.

PATH is a file, or a folder with the splits as folders or as prefixes of file names: train, and test or val.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Data
from pipeline.errors import UserError, listed
from pipeline.sources.protocol import Item, SourceIndex, fingerprint, prefer_test, split_of

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "cls")
READ_ROWS = 256
"""Rows that are held at once."""


class Parquet:
    """Encoded images in Parquet files, streamed by row groups; the order of a class is that of the rows."""

    def __init__(self, data: Data) -> None:
        if data.path is None:
            raise UserError("data.path: not given, needed for data.source=parquet; pass --data PATH")
        self.root = Path(data.path).expanduser().absolute()
        if not self.root.exists():
            raise UserError(
                f"{self.root}: does not exist; data.source=parquet needs a folder of .parquet files, or one file"
            )

    def index(self) -> SourceIndex:
        counts = {
            split: tuple(self._counts[split].get(value, 0) for value in self._label_values) for split in self._files
        }
        described = [
            f"{split}/{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}:{pq.read_metadata(file).num_rows}"
            for split, files in self._files.items()
            for file in files
        ]
        return SourceIndex(
            class_names=self._class_names,
            counts=counts,
            fingerprint=fingerprint("parquet", *described, *self._class_names),
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        wanted = {self._label_values[label]: label for label in labels}
        for path in self._files[split]:
            image, label = self._columns(path)
            row = -1
            for batch in _batches(path, [image, label]):
                values = batch.column(batch.schema.get_field_index(label)).to_pylist()
                column = batch.column(batch.schema.get_field_index(image))
                for i, value in enumerate(values):
                    row += 1
                    if value in wanted:
                        where = f"{path.name}[{row}]"
                        content, name = _content(column[i].as_py(), where)
                        yield Item(label=wanted[value], path=name or where, content=content, where=f"{path}[{row}]")

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        if self.root.is_file():
            return {"train": [self.root]}
        files = sorted(self.root.rglob("*.parquet"))
        if not files:
            raise UserError(
                f"{self.root}: holds no .parquet files; data.source=parquet needs them in it, or a file as --data"
            )
        parts = {file: [*file.relative_to(self.root).parts] for file in files}
        trains = [file for file in files if any(split_of(part) == "train" for part in parts[file])]
        if not trains:
            # Files without a split's name are the training ones, where the others say that they are for tests.
            trains = [file for file in files if not any(split_of(part) for part in parts[file])] or files
        held = prefer_test({part for file in files if file not in trains for part in parts[file]})
        tests = [file for file in files if file not in trains and any(part in held for part in parts[file])]
        return {"train": trains} | ({"test": tests} if tests else {})

    def _columns(self, path: Path) -> tuple[str, str]:
        """Names of the image and the label column of a file."""
        schema = _open(path).schema_arrow
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
        if not labels:
            raise UserError(
                f"{path}: has no label column ({', '.join(LABEL_NAMES)}, or any integers); found {_described(schema)}"
            )
        fine = next((name for name in labels if name.startswith("fine")), labels[0])
        return images[0], fine

    @cached_property
    def _counts(self) -> dict[str, Counter[Any]]:
        found: dict[str, Counter[Any]] = {}
        for split, files in self._files.items():
            found[split] = Counter()
            for path in files:
                _, label = self._columns(path)
                for batch in _batches(path, [label]):
                    found[split].update(batch.column(0).to_pylist())
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
        path = self._files["train"][0]
        _, label = self._columns(path)
        names = _features(_open(path).schema_arrow).get(label, {}).get("names", [])
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


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a whole Parquet file ({error})") from None


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from _open(path).iter_batches(batch_size=READ_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]}); fetch it again") from None


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


def _content(value: Any, where: str) -> tuple[bytes, str | None]:
    if isinstance(value, dict):
        content, name = value.get("bytes"), value.get("path")
    else:
        content, name = value, None
    return content or b"", name
