"""Arrow files of strangers: plain, uncompressed columns whose lengths are those of the file."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.formats.arrow_batches import read_batches
from pipeline.formats.arrow_schema import class_schema, tensor_array

SCHEMA = class_schema((3, 4, 4))


def batch(rows: int = 5) -> pa.RecordBatch:
    images = np.arange(rows * 48, dtype=np.uint8).reshape(rows, 3, 4, 4)
    return pa.record_batch([tensor_array(images, SCHEMA), pa.array(["a"] * rows)], schema=SCHEMA)


def file_of(*batches: pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, batches[0].schema, options=options) as writer:
        for each in batches:
            writer.write_batch(each)
    return sink.getvalue().to_pybytes()


def test_batches_of_a_memory_map_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(file_of(batch(5), batch(2)))
    before = pa.total_allocated_bytes()
    schema, batches = read_batches(pa.memory_map(str(tmp_path / "a.arrow")))
    assert pa.total_allocated_bytes() - before < 200
    assert schema == SCHEMA
    assert [each.num_rows for each in batches] == [5, 2]
    assert np.array_equal(batches[0].column("image").to_numpy_ndarray(), batch().column("image").to_numpy_ndarray())


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_files_are_refused_before_they_are_decompressed(compression: str) -> None:
    rows = 20_000
    images = np.zeros((rows, 3, 4, 4), np.uint8)
    bomb = pa.record_batch([tensor_array(images, SCHEMA), pa.array([""] * rows)], schema=SCHEMA)
    data = file_of(bomb, compression=compression)
    assert len(data) < rows * 48 / 10
    before = pa.total_allocated_bytes()
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        read_batches(pa.BufferReader(data))
    assert pa.total_allocated_bytes() - before < len(data)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a"] * 5).dictionary_encode(),
        pa.nulls(5),
        pa.array([[1]] * 5),
        pa.RunEndEncodedArray.from_arrays(pa.array([5], pa.int32()), pa.array([1])),
        pa.array([{"a": 1}] * 5),
    ],
    ids=["dictionary", "null", "list", "runs", "struct"],
)
def test_columns_that_stand_for_more_than_they_hold_are_refused(column: Any) -> None:
    data = file_of(pa.record_batch({"image": column}))
    with pytest.raises(pa.ArrowInvalid, match="'image' has a type that shards do not have"):
        read_batches(pa.BufferReader(data))


def test_a_length_beyond_the_buffers_is_refused() -> None:
    data, rows = file_of(batch(5)), struct.pack("<q", 5)
    places = [place for place in range(len(data)) if data.startswith(rows, place)]
    refused = 0
    for place in places:
        try:
            _, batches = read_batches(pa.BufferReader(data[:place] + struct.pack("<q", 2**40) + data[place + 8 :]))
        except (pa.ArrowException, OSError, ValueError):
            refused += 1
        else:
            assert [each.num_rows for each in batches] == [5]
    assert refused > 0


def test_batches_are_those_of_the_file_not_those_of_its_footer() -> None:
    """A footer may name a batch that is not there, or the same one a million times."""
    one, two = file_of(batch(5)), file_of(batch(5), batch(5))

    def footer(data: bytes) -> int:
        return len(data) - 10 - struct.unpack("<i", data[-10:-6])[0]

    forged = one[: footer(one)] + two[footer(two) :]
    assert pa.ipc.open_file(pa.BufferReader(forged)).num_record_batches == 2
    with pytest.raises(pa.ArrowInvalid, match="has 1 of 2 record batches"):
        read_batches(pa.BufferReader(forged))


def test_a_file_whose_first_message_is_no_schema_is_refused() -> None:
    """The number after the magic number is the length of the first message; 0 ends a stream."""
    data = bytearray(file_of(batch(5)))
    data[8:16] = bytes(8)
    with pytest.raises(pa.ArrowInvalid, match="has no schema before its record batches"):
        read_batches(pa.BufferReader(bytes(data)))
