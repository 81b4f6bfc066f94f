"""Inputs and file systems for Arrow: memory-mapped local files, and file systems of folders and URLs. No Ray here."""

import pyarrow as pa
import pyarrow.fs

from pipeline import storage
from pipeline.storage.arrow_s3 import s3_files
from pipeline.storage.local.regular_files import open_regular
from pipeline.storage.paths import local_path


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
        return s3_files(), root.rstrip("/")
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), root.rstrip("/")
