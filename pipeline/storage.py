"""One way to list, read and write, for local paths and for URLs that fsspec knows (s3://...).

A write is of a whole object and becomes visible at once: local files are written beside their place,
flushed and renamed; an object store publishes an object when it is complete.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from pipeline.errors import UserError


def is_local(path: str) -> bool:
    """Whether the path is on a file system of this machine."""
    return "://" not in path or path.startswith("file://")


def join(base: str, *parts: str) -> str:
    """A path below ``base``."""
    return "/".join([base.rstrip("/"), *parts])


def absolute(path: str) -> str:
    """The path as every process sees it: local paths made absolute, URLs as they are."""
    if not is_local(path):
        return path.rstrip("/")
    return str(Path(path.removeprefix("file://")).expanduser().absolute())


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    fs, root = _open(path)
    return bool(fs.exists(root))


def is_folder(path: str) -> bool:
    """Whether there is a folder."""
    fs, root = _open(path)
    return bool(fs.isdir(root))


def read_bytes(path: str) -> bytes:
    """The whole object. Raises FileNotFoundError."""
    fs, root = _open(path)
    return fs.cat_file(root)


def read_json(path: str) -> Any:
    """The parsed object. Raises FileNotFoundError, and UserError where it is no JSON."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: is not valid JSON ({error}); it is damaged or was not written by this program"
        ) from None


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """Writes the whole object, visible at once.

    Raises:
        UserError: no room, no permission, or a read-only file system.
    """
    fs, root = _open(path)
    try:
        if is_local(path):
            _write_local(Path(root), data)
        else:
            fs.pipe_file(root, bytes(data))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some room or choose another --out"
        ) from None


class Writing:
    """A large object that is written piece by piece and becomes visible at once, by ``commit``.

    Locally the pieces go to a file beside the place, else to a temporary file that is sent when it is whole.

    Raises:
        UserError: from every method, for no room, no permission or a read-only file system.
    """

    closed = False

    def __init__(self, path: str) -> None:
        self._fs, self._root = _open(path)
        self._path, self._hash = path, hashlib.sha256()
        local = is_local(path)
        self._place = Path(self._root) if local else None
        folder = Path(self._root).parent if local else Path(tempfile.gettempdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._beside = folder / f".{self._root.rsplit('/', 1)[-1]}.{uuid.uuid4().hex}.tmp"
            self._file = open(self._beside, "wb")  # noqa: SIM115 (closed by commit or discard)
        except OSError as error:
            raise unwritable(path, error) from None

    def write(self, data: bytes) -> int:
        """Appends."""
        self._hash.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            raise unwritable(self._path, error) from None

    def commit(self) -> str:
        """Makes the object visible; returns its checksum, like ``sha256``."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._place is not None:
                os.replace(self._beside, self._place)
            else:
                self._fs.put_file(str(self._beside), self._root)
        except OSError as error:
            raise unwritable(self._path, error) from None
        finally:
            self.discard()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Forgets what is not committed; may be called at any time."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._beside.unlink(missing_ok=True)


def write_json(path: str, value: Any) -> None:
    """Writes indented JSON, visible at once."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def append_line(path: str, line: str) -> None:
    """Appends to a log. Local files only: an object store cannot append, and its run does without."""
    if not is_local(path):
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise unwritable(path, error) from None


def files_below(path: str, suffix: str = "") -> list[str]:
    """Names of the files directly in a folder, sorted; none where there is no folder."""
    fs, root = _open(path)
    if not fs.isdir(root):
        return []
    found = [entry for entry in fs.ls(root, detail=True) if entry["type"] == "file"]
    return sorted(name for entry in found if (name := entry["name"].rsplit("/", 1)[-1]).endswith(suffix))


def remove(path: str) -> None:
    """Removes a file; nothing happens where there is none."""
    fs, root = _open(path)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(root)


def sweep(folder: str, age_s: float = 60.0) -> None:
    """Removes what killed writers left beside their files: nothing that was written to in the last ``age_s`` seconds."""
    if not is_local(folder):
        return
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > age_s:
                path.unlink()


def arrow_source(path: str) -> pa.NativeFile:
    """An Arrow input: memory-mapped for a local file, otherwise the object's bytes."""
    if is_local(path):
        return pa.memory_map(path, "r")
    return pa.BufferReader(read_bytes(path))


def sha256(data: bytes | memoryview) -> str:
    """Hexadecimal checksum."""
    return hashlib.sha256(data).hexdigest()


def _open(path: str) -> tuple[Any, str]:
    # A listing cache would hide what other processes write.
    options = {} if is_local(path) else {"use_listings_cache": False}
    try:
        return fsspec.core.url_to_fs(path, **options)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"{path}: is of a kind that cannot be opened ({error}); give a local path or s3://bucket/prefix"
        ) from None


def unwritable(path: str, error: OSError) -> UserError:
    """The sentence for a path that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror or error}); free some room or choose another --out")


def _write_local(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
