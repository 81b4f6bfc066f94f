"""Many files, local or in a bucket: reads them ahead with threads, and reads parts of large ones."""

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

from fsspec.spec import AbstractBufferedFile

from m3d.pulse import beat
from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.local import local_files
from pipeline.storage.local.regular_files import IMAGE_BYTES

T = TypeVar("T")
R = TypeVar("R")
REQUESTS = 16
"""Concurrent requests of a process to an object store while it reads or lists."""

AHEAD = 4
"""Items per thread that are read ahead."""


@dataclass(frozen=True, kw_only=True, order=True)
class File:
    """A file of a tree."""

    name: str
    """Path relative to the tree."""
    state: str
    """Text that changes with the file's content."""
    problem: str = ""
    """Why it cannot be read, such as ``it is a link to nothing``; empty if nothing is wrong."""


def read_ahead(files: Sequence[File], folder: str) -> Iterator[tuple[File, bytes]]:
    """Yields the files of a folder with their contents, in order; those of an object store are fetched ahead by threads.

    A file with a problem is yielded with no content.

    Raises:
        UserError: a file cannot be read, since the source changed.
    """

    def content(file: File) -> bytes:
        return b"" if file.problem else _content(storage.join(folder, file.name))

    return in_threads(files, content, 1 if storage.is_local(folder) else REQUESTS)


def in_threads(
    items: Iterable[T], work: Callable[[T], R], threads: int, *, ahead: int = AHEAD
) -> Iterator[tuple[T, R]]:
    """Yields items with the result of ``work``, in order; at most ``ahead`` items per thread are in progress."""
    if threads == 1:
        for item in items:
            beat()
            yield item, work(item)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        pending: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                # In the context of this thread, so that the beats of a long item count.
                pending.append((item, pool.submit(contextvars.copy_context().run, work, item)))
                beat()
                if len(pending) >= ahead * threads:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                beat()
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            for _, waiting in pending:
                waiting.cancel()


def open_binary(path: str, buffer: int = 0) -> IO[bytes]:
    """Opens a local file, or an object of which only the parts that are read are fetched.

    Args:
        path: local path or URL.
        buffer: bytes of an object to fetch beyond those that a read asks for; 0 fetches nothing else.
    """
    if storage.is_local(path):
        return local_files.opened(path)
    return cast(IO[bytes], _Object(path, buffer))


def part_of(path: str, start: int, size: int) -> bytes:
    """Returns some bytes of a file. Raises UserError if the file is gone or too short."""
    try:
        data = storage.read_range(path, start, start + size)
    except OSError as error:
        raise _changed(path, error) from None
    if len(data) != size:
        raise UserError(f"{path}: ends before byte {start + size}; the source changed while it was read")
    return data


class _Object(AbstractBufferedFile):
    """An object that is read in pieces, each with the retries and errors of ``storage.read_range``."""

    def __init__(self, path: str, buffer: int) -> None:
        cache = "readahead" if buffer else "none"
        block_size = cast(Any, buffer)  # fsspec's signature has a default of another type
        super().__init__(None, path, block_size=block_size, cache_type=cache, size=storage.size_of(path))

    def _fetch_range(self, start: int, end: int) -> bytes:
        return storage.read_range(self.path, start, end)


def _content(path: str) -> bytes:
    try:
        return storage.read_bytes(path, IMAGE_BYTES)
    except OSError as error:
        raise _changed(path, error) from None


def _changed(path: str, error: OSError) -> UserError:
    why = error.strerror or ("it is gone" if isinstance(error, FileNotFoundError) else s3.code_of(error) or error)
    return UserError(f"{path}: cannot be read ({why}); the source changed while it was read")
