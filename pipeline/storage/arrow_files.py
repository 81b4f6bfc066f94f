"""What Arrow reads and writes through: memory-mapped files, and file systems of local folders and URLs. No Ray here."""

from typing import Any

import pyarrow as pa
import pyarrow.fs

from pipeline import storage
from pipeline.storage import s3


def source(path: str) -> pa.NativeFile:
    """An Arrow input: memory-mapped for a local file, otherwise the object's bytes."""
    if storage.is_local(path):
        return pa.memory_map(path, "r")
    return pa.BufferReader(storage.read_bytes(path))


def file_system(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a path with Arrow's interface, and the path within it."""
    fs, root = storage.opened(path)
    if storage.is_local(path):
        return pyarrow.fs.LocalFileSystem(), root
    if storage.is_s3(path):
        return _s3_files(), root.rstrip("/")
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), root.rstrip("/")


class _S3Files(pyarrow.fs.PyFileSystem):
    """S3 as Arrow's own kind. A session does not pickle, so it is opened anew wherever it is sent."""

    def __reduce__(self) -> Any:
        return _s3_files, ()


def _s3_files() -> _S3Files:
    return _S3Files(pyarrow.fs.FSSpecHandler(s3.file_system()))
