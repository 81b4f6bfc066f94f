"""Many files, local or in a bucket: lists trees of them, reads them ahead with threads, and reads parts of large ones."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from fsspec.spec import AbstractBufferedFile

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import local_files, s3
from pipeline.storage.regular_files import IMAGE_BYTES

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


def files_in(root: str, suffixes: tuple[str, ...]) -> list[File]:
    """Returns all files below a folder whose name ends in one of the suffixes, sorted by name; hidden files are left out.

    Args:
        root: local path or URL.
        suffixes: in lower case; names are compared without regard to case.
    """
    if storage.is_local(root):
        return sorted(_local_files(Path(root), Path(root), suffixes))
    return sorted(_objects(root, suffixes))


def read_ahead(items: Sequence[T], path_of: Callable[[T], str]) -> Iterator[tuple[T, bytes]]:
    """Yields items with the content of their files, in order; files of an object store are fetched ahead by threads.

    Raises:
        UserError: a file cannot be read, since the source changed.
    """
    local = all(storage.is_local(path_of(item)) for item in items[:1])
    return in_threads(items, lambda item: _content(path_of(item)), 1 if local else REQUESTS)


def in_threads(
    items: Iterable[T], work: Callable[[T], R], threads: int, *, ahead: int = AHEAD
) -> Iterator[tuple[T, R]]:
    """Yields items with the result of ``work``, in order; at most ``ahead`` items per thread are in progress."""
    if threads == 1:
        yield from ((item, work(item)) for item in items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        pending: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) >= ahead * threads:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
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


def _local_files(folder: Path, root: Path, suffixes: tuple[str, ...]) -> Iterator[File]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _local_files(Path(entry.path), root, suffixes)
        elif entry.name.lower().endswith(suffixes) and not entry.name.startswith("."):
            state = entry.stat()
            name = str(Path(entry.path).relative_to(root))
            yield File(name=name, state=f"{state.st_size}:{state.st_mtime_ns}")


def _objects(root: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    for name, size, tag in storage.tree(root):
        last = name.rsplit("/", 1)[-1]
        if last.lower().endswith(suffixes) and not last.startswith("."):
            yield File(name=name, state=f"{size}:{tag}")
