"""One way to list, read and write, for local paths, s3:// and other URLs that fsspec knows.

``from pipeline import storage`` gives all of it: ``storage.read_bytes``, ``storage.join``, ``storage.AtomicWriter``.
"""

from pipeline.storage.atomic_writer import AtomicWriter
from pipeline.storage.objects import (
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
from pipeline.storage.paths import absolute, is_local, is_s3, join

__all__ = [
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
