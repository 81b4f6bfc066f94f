"""Many files, local or in a bucket: trees of them listed, read ahead by threads, and parts of large ones."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import s3

T = TypeVar("T")
R = TypeVar("R")
REQUESTS = 16
"""Requests to an object store that a process has under way while it reads or lists."""

AHEAD = 4
"""Items a thread that are worked on before they are asked for."""


@dataclass(frozen=True, kw_only=True, order=True)
class File:
    """A file of a tree."""

    name: str
    """Relative to the tree."""
    state: str
    """Changes when the file does."""


def files_in(root: str, suffixes: tuple[str, ...]) -> list[File]:
    """All files below a folder with one of the endings (in lower case), sorted by name; hidden ones are left out."""
    if storage.is_local(root):
        return sorted(_walk(Path(root), Path(root), suffixes))
    return sorted(_found(root, suffixes))


def read_ahead(paths: Sequence[T], path_of: Callable[[T], str]) -> Iterator[tuple[T, bytes]]:
    """The contents of files, in their order; those of an object store are fetched ahead by threads.

    Raises:
        UserError: a file that cannot be read, since the source changed.
    """
    local = all(storage.is_local(path_of(item)) for item in paths[:1])
    return in_threads(paths, lambda item: _content(path_of(item)), 1 if local else REQUESTS)


def in_threads(
    items: Iterable[T], work: Callable[[T], R], threads: int, *, ahead: int = AHEAD
) -> Iterator[tuple[T, R]]:
    """Items with what ``work`` makes of them, in their order, ``ahead`` a thread under way at most."""
    if threads == 1:
        yield from ((item, work(item)) for item in items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        begun: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                begun.append((item, pool.submit(work, item)))
                if len(begun) >= ahead * threads:
                    first, made = begun.popleft()
                    yield first, made.result()
            while begun:
                first, made = begun.popleft()
                yield first, made.result()
        finally:
            for _, waiting in begun:
                waiting.cancel()


def open_binary(path: str, buffer: int = 0) -> IO[bytes]:
    """A local file, or an object of which only what is asked for is fetched, ``buffer`` bytes at a time or more."""
    if storage.is_local(path):
        return open(path, "rb")
    ranges = _Ranges(path)
    return cast(IO[bytes], io.BufferedReader(ranges, buffer) if buffer else ranges)


def part_of(path: str, start: int, size: int) -> bytes:
    """Some bytes of a file. Raises UserError where it is gone or too short."""
    try:
        data = storage.read_range(path, start, start + size)
    except OSError as error:
        raise _changed(path, error) from None
    if len(data) != size:
        raise UserError(f"{path}: ends before byte {start + size}; the source changed while it was read")
    return data


class _Ranges(io.RawIOBase):
    """An object that is read piece by piece; every read is a request of its own."""

    def __init__(self, path: str) -> None:
        self._path, self._size, self._at = path, storage.size_of(path), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        data = storage.read_range(self._path, self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if storage.is_local(path) else storage.read_bytes(path)
    except OSError as error:
        raise _changed(path, error) from None


def _changed(path: str, error: OSError) -> UserError:
    why = error.strerror or ("it is gone" if isinstance(error, FileNotFoundError) else s3.code_of(error) or error)
    return UserError(f"{path}: cannot be read ({why}); the source changed while it was read")


def _walk(folder: Path, root: Path, suffixes: tuple[str, ...]) -> Iterator[File]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path), root, suffixes)
        elif entry.name.lower().endswith(suffixes) and not entry.name.startswith("."):
            state = entry.stat()
            name = str(Path(entry.path).relative_to(root))
            yield File(name=name, state=f"{state.st_size}:{state.st_mtime_ns}")


def _found(root: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    for name, size, tag in storage.tree(root):
        last = name.rsplit("/", 1)[-1]
        if last.lower().endswith(suffixes) and not last.startswith("."):
            yield File(name=name, state=f"{size}:{tag}")
