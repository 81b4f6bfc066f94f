"""Lists, reads and writes objects in one way for local paths, s3:// and the other URLs that are allowed.

Local paths are handled by the operating system alone, in ``pipeline.storage.local.local_files``. A write replaces the complete object. Locally and on S3 it becomes visible at once: a local file is written to a hidden
file beside it, flushed and renamed, and S3 publishes an object when it is complete. Other stores may show it earlier.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable
from typing import Any

from m3d.pulse import beat
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.local import local_files
from pipeline.storage.local.regular_files import DOCUMENT_BYTES, MOST_BYTES, require_size
from pipeline.storage.local.temporary_names import is_left_behind
from pipeline.storage.paths import is_local, is_s3, local_path, require_url
from pipeline.storage.safe_json import parse_json

NO_RANGE = ("InvalidRange", "416")
"""Answers to a request for the first bytes of an empty object."""
CONDITION_FAILED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey")
LEFT_BEHIND_S = 24 * 3600.0
"""Age from which a temporary file counts as left behind, if it may be of live work on another machine."""
HASHED_BYTES = 2**24
"""Bytes of which a checksum is computed between two signs of life."""


def exists(path: str) -> bool:
    """Whether a file or folder exists."""
    if is_local(path):
        return local_files.exists(path)
    return bool(operate(path, lambda fs, root: fs.exists(root)))


def is_folder(path: str) -> bool:
    """Whether a folder exists."""
    if is_local(path):
        return local_files.is_folder(path)
    return bool(operate(path, lambda fs, root: fs.isdir(root)))


def require_reachable(path: str) -> None:
    """Raises UserError if the path's bucket does not exist, refuses the credentials or does not answer; other paths pass."""
    if is_s3(path):
        bucket = s3.bucket_of(path)
        key = path.partition("://")[2].partition("/")[2]
        operate(path, lambda fs, _: fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1))


def read_bytes(path: str, most: int = MOST_BYTES) -> bytes:
    """Returns the complete object.

    Args:
        path: local path or URL.
        most: largest size in bytes.

    Raises:
        FileNotFoundError: there is no such object.
        UserError: it is larger, or no regular file.
    """
    if is_local(path):
        return local_files.read(path, most=most)
    if not is_s3(path):
        require_size(path, size_of(path), most)
        return operate(path, lambda fs, root: fs.cat_file(root))

    def first(fs: Any, root: str) -> bytes:
        try:
            return fs.cat_file(root, start=0, end=most + 1)
        except OSError as error:
            if s3.code_of(error) in NO_RANGE:
                return b""
            raise

    data = operate(path, first)  # one request; s3fs would ask for the size first
    if len(data) > most:
        require_size(path, size_of(path), most)
    return data


def read_range(path: str, start: int, end: int) -> bytes:
    """Returns the bytes from ``start`` up to, not including, ``end``. Raises FileNotFoundError."""
    if end <= start:
        return b""  # HTTP has no empty range, and a store would send the complete object
    if is_local(path):
        return local_files.read(path, start, end)
    return operate(path, lambda fs, root: fs.cat_file(root, start=start, end=end))


def size_of(path: str) -> int:
    """Returns the size of an object in bytes. Raises FileNotFoundError."""
    if is_local(path):
        return local_files.size_of(path)
    return int(operate(path, lambda fs, root: fs.size(root)))


def read_json(path: str, most: int = DOCUMENT_BYTES) -> Any:
    """Returns the parsed JSON of an object of at most so many bytes. Raises FileNotFoundError, and UserError if it is none."""
    try:
        return parse_json(read_bytes(path, most))
    except ValueError as error:
        raise UserError(
            f"{path}: is not valid JSON ({error}); it is damaged or was not written by this program"
        ) from None


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """Writes the complete object, visible at once.

    Raises:
        UserError: there is no space or no permission, or the file system is read-only.
    """
    try:
        if is_local(path):
            local_files.write(path, data)
        else:
            content = bytes(data)
            options = {"chunksize": s3.PART_BYTES} if is_s3(path) else {}
            operate(path, lambda fs, root: fs.pipe_file(root, content, **options))
    except OSError as error:
        raise unwritable(path, error) from None


def create(path: str, data: bytes) -> bool:
    """Writes an object of S3 unless it exists; returns whether it did. A store without conditional writes always writes."""
    try:
        operate(path, lambda fs, root: fs.pipe_file(root, data, mode="create"))
    except FileExistsError:
        return False
    except OSError as error:
        if s3.code_of(error) in CONDITION_FAILED:
            return False
        raise
    return True


def version_of(path: str) -> str | None:
    """Returns the ETag of an object of S3, which changes with its content, or None if there is no object."""
    try:
        return str(operate(path, lambda fs, root: fs.info(root)["ETag"]))
    except FileNotFoundError:
        return None


def replace_version(path: str, data: bytes, version: str) -> bool:
    """Writes an object of S3 if it still has that version; returns whether it did."""

    def put(fs: Any, root: str) -> bool:
        bucket, key, _ = fs.split_path(root)
        try:
            fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfMatch=version)
        except OSError as error:
            if s3.code_of(error) in CONDITION_FAILED:
                return False
            raise
        return True

    return operate(path, put)


def write_json(path: str, value: Any) -> None:
    """Writes indented JSON, visible at once."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def append_line(path: str, line: str) -> None:
    """Appends a line to a local log file; an object store cannot append, see ``observability.jsonl_log``."""
    try:
        local_files.append_line(path, line)
    except OSError as error:
        raise unwritable(path, error) from None


def files_below(path: str, suffix: str = "") -> list[str]:
    """Returns the names of the files directly in a folder, sorted; none if there is no folder. Hidden ones are left out."""
    return sorted(name for name, kind in _entries(path) if kind == "file" and name.endswith(suffix))


def folders_below(path: str) -> list[str]:
    """Returns the names of the folders directly in a folder, sorted; none if there is no folder. Hidden ones are left out."""
    return sorted(name for name, kind in _entries(path) if kind == "directory")


def tree(path: str) -> list[tuple[str, int, str]]:
    """Returns relative name, size and ETag of every object below a prefix of an object store."""
    root, entries = operate(path, lambda fs, root: (root, fs.find(root, detail=True)))
    start = len(root.strip("/")) + 1
    return [
        (name.lstrip("/")[start:], int(entry["size"]), str(entry.get("ETag", "")).strip('"'))
        for name, entry in entries.items()
    ]


def remove(path: str) -> None:
    """Removes a file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        if is_local(path):
            local_files.remove(path)
        else:
            operate(path, lambda fs, root: fs.rm_file(root))


def sweep(folder: str, age_s: float = 60.0) -> None:
    """Removes temporary files that killed writers left in a folder.

    Files of which it is not known whether their writer still runs are left unless they were not written to for ``age_s`` seconds.
    So are those that this user may not remove.
    """
    if not is_local(folder):
        return
    for path in local_path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if is_left_behind(path, age_s):
                path.unlink()


def sha256(data: bytes | memoryview) -> str:
    """Returns the hexadecimal SHA-256 checksum. Beats: a large file may be mapped from a slow disk."""
    checksum, view = hashlib.sha256(), memoryview(data)
    pieces = view.cast("B") if view.nbytes else view  # an empty view cannot be cast
    for start in range(0, view.nbytes, HASHED_BYTES):
        beat()
        checksum.update(pieces[start : start + HASHED_BYTES])
    return checksum.hexdigest()


def _entries(path: str) -> list[tuple[str, str]]:
    """Names and kinds of what is directly in a folder. Names that begin with a point are of editors and of macOS."""
    return [(name, kind) for name, kind in _all_entries(path) if not name.startswith(".")]


def _all_entries(path: str) -> list[tuple[str, str]]:
    if is_local(path):
        return local_files.entries(path)

    def listed(fs: Any, root: str) -> list[tuple[str, str]]:
        if not is_s3(path) and not fs.isdir(root):
            return []
        # S3 lists the marker object of a folder, if it has one, as a file without a name.
        entries = [(entry["name"].rstrip("/"), entry["type"]) for entry in fs.ls(root, detail=True)]
        return [(name.rsplit("/", 1)[-1], kind) for name, kind in entries if name != root.rstrip("/")]

    try:
        return operate(path, listed)
    except FileNotFoundError:
        return []


def operate(path: str, operation: Callable[[Any, str], Any]) -> Any:
    """Returns the operation's result for a URL's file system and the path within it; S3 requests are repeated."""
    fs, root = opened(path)
    return s3.call(path, lambda: operation(fs, root)) if is_s3(path) else operation(fs, root)


def opened(path: str) -> tuple[Any, str]:
    """Returns fsspec's file system of a URL, and the path within it. Raises UserError if the URL is none that is opened."""
    require_url(path)
    if is_s3(path):
        return s3.file_system(), path.partition("://")[2]
    import fsspec  # not at the top: the command line reads paths without it

    scheme, _, root = path.partition("://")
    try:
        # The class of the scheme alone: ``url_to_fs`` would take "::" for a chain of URLs. A listing cache would hide what
        # other processes write.
        kind = fsspec.get_filesystem_class(scheme)
        return kind(**kind._get_kwargs_from_urls(path), use_listings_cache=False), kind._strip_protocol(path) or root
    except (ValueError, ImportError) as error:
        raise UserError(f"{path}: cannot be opened ({error}); give a local path or s3://BUCKET/PREFIX") from None


def unwritable(path: str, error: OSError) -> UserError:
    """Returns the error for a path that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror or error}); free some space or choose another --out")


def unwritable_temporary(error: OSError) -> UserError:
    """Returns the error for a temporary folder that cannot be written."""
    return UserError(
        f"{tempfile.gettempdir()}: cannot be written ({error.strerror or error}); free some space, or choose another folder with TMPDIR"
    )
