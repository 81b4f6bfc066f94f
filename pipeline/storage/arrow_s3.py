"""S3 with Arrow's interface, as Ray Tune and Ray Train use it: every operation is repeated like those of ``storage``.

An object is read and written as a whole, in one operation that can be repeated. Ray's own files are small.
"""

import io
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs

from pipeline.storage import s3

T = TypeVar("T")


class S3Files(pyarrow.fs.PyFileSystem):
    """A session cannot be pickled, so every process that receives this opens its own."""

    def __reduce__(self) -> tuple[Callable[[], pyarrow.fs.PyFileSystem], tuple[()]]:
        return s3_files, ()


def s3_files() -> S3Files:
    """Returns the file system of this process."""
    return S3Files(_Handler(s3.file_system()))


class _Handler(pyarrow.fs.FSSpecHandler):
    """fsspec's operations, each with the attempts and the errors of ``s3.call``."""

    def get_file_info(self, paths: list[str]) -> list[pyarrow.fs.FileInfo]:
        infos = super().get_file_info
        return [info for path in paths for info in _call(path, lambda path=path: infos([path]))]

    def get_file_info_selector(self, selector: pyarrow.fs.FileSelector) -> list[pyarrow.fs.FileInfo]:
        infos = super().get_file_info_selector
        return _call(selector.base_dir, lambda: infos(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        create = super().create_dir
        _call(path, lambda: create(path, recursive))

    def delete_dir(self, path: str) -> None:
        delete = super().delete_dir
        _call(path, _once(lambda: delete(path)))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        delete = super().delete_dir_contents
        _call(path, _once(lambda: delete(path, missing_dir_ok)))

    def delete_file(self, path: str) -> None:
        delete = super().delete_file
        _call(path, _once(lambda: delete(path)))

    def move(self, src: str, dest: str) -> None:
        move = super().move
        _call(src, _once(lambda: move(src, dest)))

    def copy_file(self, src: str, dest: str) -> None:
        copy = super().copy_file
        _call(src, lambda: copy(src, dest))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(_call(path, lambda: self.fs.cat_file(path, max_concurrency=1)))

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        return pa.PythonFile(_WholeObject(self.fs, path), mode="w")

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise NotImplementedError("an object store cannot append")


class _WholeObject:
    """Collects the content of an object, which is written when it is closed.

    An object that is dropped instead, since a copy was aborted, is never written. A subclass of Python's files would
    close itself then.
    """

    closed = False

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path, self._content = fs, path, io.BytesIO()

    def write(self, data: bytes) -> int:
        return self._content.write(data)

    def tell(self) -> int:
        return self._content.tell()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            content = self._content.getvalue()
            _call(self._path, lambda: self._fs.pipe_file(self._path, content, chunksize=s3.PART_BYTES))


def _call(path: str, operation: Callable[[], T]) -> T:
    return s3.call(f"s3://{path}", operation)


def _once(operation: Callable[[], None]) -> Callable[[], None]:
    """The operation as it is repeated: what is gone at the second attempt was removed by the first."""
    attempts = 0

    def repeated() -> None:
        nonlocal attempts
        attempts += 1
        try:
            operation()
        except FileNotFoundError:
            if attempts == 1:
                raise

    return repeated
