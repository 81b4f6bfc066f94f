"""Small Parquet files of images, and whether they are read as they were written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline.support.images import encoded, picture
from tests.pipeline.support.sources import read_all

LABELS = [1, 0, 2, 1, 0, 2, 2]
NAMES = ["ant", "bee", "cat"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def contents(count: int = len(LABELS), first: int = 0) -> list[bytes]:
    """Encoded images."""
    return [encoded(picture(first + i)) for i in range(count)]


def hub(image: str = "image", label: str = "label") -> dict[bytes, bytes]:
    """Schema metadata as Hugging Face datasets writes it."""
    features = {image: {"_type": "Image"}, label: {"names": NAMES, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write_parquet(
    path: Path,
    labels: pa.Array | Sequence[Any] = LABELS,
    *,
    image: str = "image",
    label: str = "label",
    structs: bool = True,
    metadata: dict[bytes, bytes] | None = None,
    before: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A Parquet file of images."""
    encoded_images = contents(len(labels))
    cells = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(encoded_images)]
    column = pa.array(cells, STRUCT) if structs else pa.array(encoded_images, pa.binary())
    table = pa.table({**(before or {}), image: column, label: labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


def is_read_in_order(path: Path) -> bool:
    """Whether every class has its own images, in the order of the rows."""
    images = contents()
    items = read_all("parquet", path)
    return [(item.label, item.content) for item in items] == list(zip(LABELS, images, strict=True))
