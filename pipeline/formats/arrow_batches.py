"""Reads the record batches of an Arrow file that nobody vouches for, in memory of at most the size of the file.

Our shards are uncompressed and have columns of numbers, texts and tensors. Compressed buffers, dictionaries and runs could
stand for far more values than the file has bytes, and a wrong length for values that lie outside of it.
"""

import struct

import pyarrow as pa

HEAD_BYTES = 8
"""Bytes before the first message of a file: its magic number, padded."""
_HEADER, _COMPRESSION = 2, 3
"""Places of the fields ``Message.header`` and ``RecordBatch.compression`` in Arrow's format/Message.fbs."""


def read_batches(source: pa.NativeFile) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Returns the schema and the record batches of an Arrow file. Batches of a memory map stay where they are mapped.

    Raises:
        pa.ArrowException, OSError, ValueError: it is not a complete Arrow file of plain, uncompressed columns.
    """
    source.seek(0)
    file = pa.ipc.open_file(source)
    schema = file.schema
    # Names are decoded here, where the caller expects a ValueError if they are not UTF-8.
    odd = [name for name, kind in zip(schema.names, schema.types, strict=True) if not _is_plain(kind)]
    if odd:
        raise pa.ArrowInvalid(f"column {odd[0][:80]!r} has a type that shards do not have")
    # One message after another, not as the footer says: it could name a batch many times.
    source.seek(HEAD_BYTES)
    messages = pa.ipc.MessageReader.open_stream(source)
    if next(messages, None) is None:
        raise pa.ArrowInvalid("has no schema before its record batches")
    batches = []
    while len(batches) < file.num_record_batches:
        message = next(messages, None)
        if message is None:
            raise pa.ArrowInvalid(f"has {len(batches)} of {file.num_record_batches} record batches")
        if message.type != "record batch" or _is_compressed(message.metadata):
            raise pa.ArrowInvalid("has compressed or encoded columns, which shards do not have")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        batches.append(batch)
    return schema, batches


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.FixedShapeTensorType):
        return pa.types.is_primitive(kind.value_type)
    return pa.types.is_primitive(kind) or pa.types.is_string(kind)


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Whether the buffers of a record batch are compressed; Arrow has checked the structure of its metadata."""
    data = metadata.to_pybytes()
    (root,) = struct.unpack_from("<I", data)
    batch = _field(data, root, _HEADER)
    (offset,) = struct.unpack_from("<I", data, batch)
    return _field(data, batch + offset, _COMPRESSION) != 0


def _field(data: bytes, table: int, place: int) -> int:
    """Position of a field of a flatbuffer's table, or 0 if it has the default value."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    entry = 4 + 2 * place
    (offset,) = struct.unpack_from("<H", data, table - back + entry) if entry < size else (0,)
    return table + offset if offset else 0
