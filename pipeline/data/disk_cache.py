"""Local copies of class shards that lie in a bucket, named by their checksums, under a byte budget per node.

Processes of a node share the folder without locks: a copy is written beside its place and renamed, and one that is
removed while it is mapped stays readable until it is closed. The copies that were used longest ago go first.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import pyarrow as pa

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.storage import arrow_files
from pipeline.storage.files import in_threads

GIB = 2**30
PART_BYTES = 8 * 2**20
"""Fetched by one request."""
TOGETHER = 8
"""Parts of a shard that are fetched side by side."""
LEFT_BEHIND_S = 24 * 3600.0
"""Age from which an unfinished copy counts as left by a process that was killed."""
SPARE_BYTES = 2 * GIB
"""Room that copies leave free on the disk."""


def open_shard(path: str, sha256: str, data: Data, *, must_map: bool = False) -> pa.NativeFile:
    """An Arrow input of a class shard: a memory map where it is local or has room here, otherwise its bytes.

    Args:
        path: of the shard.
        sha256: its checksum, which names the copy; the caller compares the content.
        data: says where copies go and how much room they have.
        must_map: memory has no room for it.

    Raises:
        FileNotFoundError: there is no such shard.
        UserError: it must be mapped, and the disk has no room for a copy.
    """
    if storage.is_local(path):
        return arrow_files.source(path)
    size, budget = storage.size_of(path), data.disk_cache_gib * GIB
    why = f"data.disk_cache_gib is {data.disk_cache_gib:g}"
    for _ in range(3 if size <= budget else 0):
        try:
            return pa.memory_map(str(_copy(path, sha256, size, folder_of(data), budget)), "r")
        except FileNotFoundError:
            continue  # another process made room in between
        except OSError as error:  # a full or read-only disk: a run that has the memory does without a copy
            why = error.strerror or str(error)
            break
    if must_map:
        raise UserError(
            f"{path}: {size / GIB:.2f} GiB must be mapped, but there is no room for a copy in {folder_of(data)} ({why}); raise "
            "data.disk_cache_gib or choose another data.disk_cache"
        )
    return arrow_files.source(path)


def room_for_copies(data: Data) -> int:
    """Bytes that copies may take on this node: the budget, or what its disk has."""
    folder = folder_of(data)
    there = next(one for one in (folder, *folder.parents) if one.exists())
    held = sum(_size(place) for place in folder.glob("*.arrow"))
    return int(min(data.disk_cache_gib * GIB, shutil.disk_usage(there).free - SPARE_BYTES + held))


def forget(path: str, sha256: str, data: Data) -> bool:
    """Removes a copy, because it is damaged; false where the shard itself was read. Another process may be faster."""
    if storage.is_local(path):
        return False
    (folder_of(data) / f"{sha256}.arrow").unlink(missing_ok=True)
    return True


def folder_of(data: Data) -> Path:
    """Where the copies of this node are."""
    return Path(data.disk_cache or Path(tempfile.gettempdir(), f"m3d-class-shards-{os.getuid()}"))


def _copy(path: str, sha256: str, size: int, folder: Path, budget: float) -> Path:
    place = folder / f"{sha256}.arrow"
    with contextlib.suppress(FileNotFoundError):
        if place.stat().st_size == size:
            os.utime(place)  # used now
            return place
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _make_room(folder, size, budget)
    beside = folder / f".{sha256}.{uuid.uuid4().hex}.tmp"
    starts = range(0, size, PART_BYTES)
    try:
        with open(beside, "wb") as file:
            parts = in_threads(
                starts,
                lambda at: storage.read_range(path, at, min(size, at + PART_BYTES)),
                min(TOGETHER, len(starts) or 1),
                ahead=1,
            )
            for _, part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)
    return place


def _make_room(folder: Path, size: int, budget: float) -> None:
    """Removes copies, the longest unused first, until ``size`` bytes fit. Raises OSError where the disk is too full."""
    storage.sweep(str(folder), LEFT_BEHIND_S)
    copies = []
    for place in folder.glob("*.arrow"):
        with contextlib.suppress(FileNotFoundError):
            state = place.stat()
            copies.append((state.st_mtime_ns, state.st_size, place))
    held = sum(one[1] for one in copies)
    for _, bytes_held, place in sorted(copies):
        if held + size <= budget and size <= _free(folder):
            return
        place.unlink(missing_ok=True)  # its room comes back when nobody maps it any more
        held -= bytes_held
    if size > _free(folder):
        raise OSError(f"{folder}: no room for {size} bytes")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free - SPARE_BYTES


def _size(place: Path) -> int:
    try:
        return place.stat().st_size
    except FileNotFoundError:
        return 0
