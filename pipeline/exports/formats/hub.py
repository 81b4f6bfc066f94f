"""``hub``: Parquet as the Hugging Face hub stores images, a data card and a contact sheet; PNG, 8 bits.

``datasets.load_dataset(PATH)`` reads the folder with the features Image and ClassLabel, and so does the hub once it is
uploaded. Files of other people are read alike if they have an image column and a label column.
"""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.exports.contact_sheet import contact_sheet
from pipeline.exports.encoded_images import numbered, read_encoded
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.portable_set import PortableSet
from pipeline.formats.png import eight_bit, png

CARD, SHEET = "README.md", "contact-sheet.png"
FILE_BYTES = 2**29
"""Bytes of pixels in a file, before they are encoded."""
GROUP_ROWS = 256
"""Rows of a row group, as many as a reader holds in memory."""


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes data/train-*.parquet, README.md and contact-sheet.png."""
    images = outgoing.images
    schema = _schema(images.names)
    rows = max(1, FILE_BYTES // max(1, images.images[0].numel()))
    starts = range(0, len(images.images), rows)
    for number, start in enumerate(starts):
        table = _table(images, schema, range(start, min(start + rows, len(images.images))))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=GROUP_ROWS)
        name = f"train-{number:05d}-of-{len(starts):05d}.parquet"
        storage.write_bytes(storage.join(folder, "data", name), memoryview(sink.getvalue()))
    storage.write_bytes(storage.join(folder, SHEET), contact_sheet(images))
    storage.write_bytes(storage.join(folder, CARD), outgoing.card.encode("utf-8", "replace"))


def read(path: str, known: Known) -> Incoming:
    """Reads a folder of Parquet files, or one file."""
    return read_encoded(Data(source="parquet", path=path))


def _schema(names: Sequence[str]) -> pa.Schema:
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    encoded = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", encoded), ("label", pa.int64())], metadata=metadata)


def _table(images: PortableSet, schema: pa.Schema, positions: range) -> pa.Table:
    pixels = eight_bit(images.images[positions.start : positions.stop])
    cells = [
        {"bytes": png(image), "path": f"{numbered(position, images.per_class)}.png"}
        for position, image in zip(positions, pixels, strict=True)
    ]
    labels = [position // images.per_class for position in positions]
    return pa.Table.from_arrays(
        [pa.array(cells, schema.field("image").type), pa.array(labels, pa.int64())], schema=schema
    )


FORMAT = ExportFormat(write=write, read=read, pixels="png")
