"""Makes condensed shards: one Arrow file per group of classes, in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.formats.arrow_schema import condensed_schema, tensor_array


def condensed_shard(
    images: np.ndarray, classes: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> memoryview:
    """Returns an Arrow file of one group's stored images, class by class.

    Args:
        images: float32 in [0, 1], shape [classes, stored, C, H, W].
        classes: label, wnid and name of each class.
        metadata: moments, factor, class order, configuration and versions, which a reader needs besides.
    """
    count, stored = images.shape[:2]
    flat = np.ascontiguousarray(images.reshape(count * stored, *images.shape[2:]))
    schema = condensed_schema(_shape(flat), metadata)

    def repeated(key: str, kind: pa.DataType) -> pa.Array:
        return pa.array([entry[key] for entry in classes for _ in range(stored)], kind)

    columns = [
        tensor_array(flat, schema),
        repeated("label", pa.int64()),
        repeated("wnid", pa.string()),
        repeated("name", pa.string()),
        pa.array(list(range(stored)) * count, pa.int32()),
    ]
    return _file(schema, columns)


def _shape(images: np.ndarray) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width


def _file(schema: pa.Schema, columns: list[pa.Array]) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return memoryview(sink.getvalue())
