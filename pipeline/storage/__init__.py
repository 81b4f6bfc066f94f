"""Lists, reads and writes objects in one way for local paths, s3:// and the other URLs that are allowed.

``from pipeline import storage`` provides all of it: ``storage.read_bytes``, ``storage.join``, ``storage.AtomicWriter``.
Importing it is cheap: fsspec and s3fs are imported when the first path needs them.
"""

from pipeline.storage.atomic_writer import AtomicWriter
from pipeline.storage.objects import (
    LEFT_BEHIND_S,
    append_line,
    create,
    exists,
    files_below,
    folders_below,
    is_folder,
    opened,
    read_bytes,
    read_json,
    read_range,
    remove,
    replace_version,
    require_reachable,
    sha256,
    size_of,
    sweep,
    tree,
    unwritable,
    unwritable_temporary,
    version_of,
    write_bytes,
    write_json,
)
from pipeline.storage.paths import absolute, is_local, is_s3, join, readable

__all__ = [
    "LEFT_BEHIND_S",
    "AtomicWriter",
    "absolute",
    "append_line",
    "create",
    "exists",
    "files_below",
    "folders_below",
    "is_folder",
    "is_local",
    "is_s3",
    "join",
    "opened",
    "read_bytes",
    "read_json",
    "read_range",
    "readable",
    "remove",
    "replace_version",
    "require_reachable",
    "sha256",
    "size_of",
    "sweep",
    "tree",
    "unwritable",
    "unwritable_temporary",
    "version_of",
    "write_bytes",
    "write_json",
]
