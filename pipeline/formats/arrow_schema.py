"""The Arrow contract: columns and metadata of class shards and of condensed shards.

Both are uncompressed Arrow IPC files, so that they can be memory-mapped. A folder of shards is valid only with its
manifest.json, which is written last and holds the number of rows and the checksum of every shard.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

FORMAT_VERSION = 1
SHARD_VERSION = 2
"""Format of the metadata of condensed shards that do not list the classes; those that do have format 1."""
LISTED_CLASSES = 100
"""Most classes of a run that each of its condensed shards lists. The manifest lists them once, however many they are."""
MANIFEST = "manifest.json"
METADATA_KEY = b"m3d"
AXES = ["C", "H", "W"]


def class_schema(shape: tuple[int, int, int]) -> pa.Schema:
    """Returns the schema of real images of one class: ``image`` uint8 [C, H, W], and ``path``, the image's place in its source."""
    return pa.schema([("image", _tensor(pa.uint8(), shape)), ("path", pa.string())])


def condensed_schema(shape: tuple[int, int, int], metadata: Mapping[str, Any]) -> pa.Schema:
    """Returns the schema of stored synthetic images: ``image`` float32 [C, H, W] in [0, 1], label, names and index in the class."""
    columns = [
        ("image", _tensor(pa.float32(), shape)),
        ("label", pa.int64()),
        ("wnid", pa.string()),
        ("class_name", pa.string()),
        ("ipc_index", pa.int32()),
    ]
    return pa.schema(columns, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})


def _tensor(kind: pa.DataType, shape: tuple[int, int, int]) -> pa.FixedShapeTensorType:
    return pa.fixed_shape_tensor(kind, shape, dim_names=AXES)


def tensor_array(images: np.ndarray, schema: pa.Schema) -> pa.Array:
    """Returns images [n, C, H, W] as the column ``image`` of a schema."""
    kind = schema.field("image").type
    flat = pa.array(np.ascontiguousarray(images).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(images.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, rows)
