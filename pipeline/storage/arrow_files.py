"""Inputs and file systems for Arrow: memory-mapped local files, and file systems of folders and URLs. No Ray here."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.fs

from pipeline import storage
from pipeline.storage import s3
from pipeline.storage.paths import local_path
from pipeline.storage.regular_files import open_regular


def source(path: str) -> pa.NativeFile:
    """Returns an Arrow input: a memory map of a local file, or a buffer with the bytes of an object."""
    if storage.is_local(path):
        open_regular(local_path(path)).close()
        return pa.memory_map(str(local_path(path)), "r")
    return pa.BufferReader(storage.read_bytes(path))


def file_system(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns the file system of a path with Arrow's interface, and the path within it."""
    if storage.is_local(path):
        return pyarrow.fs.LocalFileSystem(), str(local_path(path))
    fs, root = storage.opened(path)
    if storage.is_s3(path):
        return _s3_files(), root.rstrip("/")
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), root.rstrip("/")


class _S3Files(pyarrow.fs.PyFileSystem):
    """S3 with Arrow's interface. A session cannot be pickled, so every process that receives it opens its own."""

    def __reduce__(self) -> tuple[Callable[[], pyarrow.fs.PyFileSystem], tuple[()]]:
        return _s3_files, ()


def _s3_files() -> _S3Files:
    return _S3Files(pyarrow.fs.FSSpecHandler(s3.file_system()))
