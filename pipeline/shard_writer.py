"""Writes shards: condensed ones as whole buffers, class shards batch by batch. Neither is visible before it is whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.shard_schema import class_schema, condensed_schema

BATCH_BYTES = 16 * 2**20
"""Pixels of a record batch of a class shard: what a writer holds of it in memory."""


class ClassShard:
    """The Arrow file of one class's images, written batch by batch, so that memory does not grow with the class."""

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        """Args: where it goes, and the shape [C, H, W] of its images."""
        self._target = storage.Writing(path)
        self._schema = class_schema(shape)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._target, "w"), self._schema)
        self._images: list[np.ndarray] = []
        self._paths: list[str] = []
        self._most = max(1, BATCH_BYTES // int(np.prod(shape)))
        self._shape = shape
        self.rows = 0

    def add(self, image: np.ndarray, path: str) -> None:
        """Appends an image, uint8 [C, H, W], and where it comes from."""
        self._images.append(image)
        self._paths.append(path)
        self.rows += 1
        if len(self._images) >= self._most:
            self._flush()

    def commit(self) -> str:
        """Makes the file visible; returns its checksum."""
        if self._images or not self.rows:
            self._flush()
        self._writer.close()
        return self._target.commit()

    def discard(self) -> None:
        """Forgets the file unless it is committed."""
        self._target.discard()

    def _flush(self) -> None:
        images = np.stack(self._images) if self._images else np.zeros((0, *self._shape), np.uint8)
        columns = [_tensor_array(images, self._schema), pa.array(self._paths, pa.string())]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._images, self._paths = [], []


def condensed_shard(
    images: np.ndarray, classes: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> memoryview:
    """An Arrow file of one group's stored images, class by class.

    Args:
        images: float32 in [0, 1], shape [classes, stored, C, H, W].
        classes: label, wnid and name of each class.
        metadata: what a reader needs besides: moments, factor, class order, configuration, versions.
    """
    count, stored = images.shape[:2]
    flat = np.ascontiguousarray(images.reshape(count * stored, *images.shape[2:]))
    schema = condensed_schema(_shape(flat), metadata)

    def repeated(key: str, kind: pa.DataType) -> pa.Array:
        return pa.array([entry[key] for entry in classes for _ in range(stored)], kind)

    columns = [
        _tensor_array(flat, schema),
        repeated("label", pa.int64()),
        repeated("wnid", pa.string()),
        repeated("name", pa.string()),
        pa.array(list(range(stored)) * count, pa.int32()),
    ]
    return _file(schema, columns)


def _shape(images: np.ndarray) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width


def _tensor_array(images: np.ndarray, schema: pa.Schema) -> pa.Array:
    kind = schema.field("image").type
    flat = pa.array(np.ascontiguousarray(images).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(images.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, rows)


def _file(schema: pa.Schema, columns: list[pa.Array]) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return memoryview(sink.getvalue())
