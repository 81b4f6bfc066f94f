"""Local copies of class shards from a bucket, named by their checksums, with a byte budget per node.

Processes of a node share the folder without locks. A copy is written to a temporary file and renamed; a copy that is
removed while it is mapped stays readable until it is closed. The least recently used copies are removed first.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa

from m3d.backend.own_folder import own_folder
from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.storage import arrow_files
from pipeline.storage.files import in_threads
from pipeline.storage.local.temporary_names import temporary_beside

GIB = 2**30
PART_BYTES = 8 * 2**20
"""Bytes that one request fetches."""
PARALLEL_PARTS = 8
"""Parts of a shard that are fetched in parallel."""
SPARE_BYTES = 2 * GIB
"""Bytes of the disk that copies leave free."""


def open_shard(path: str, sha256: str, data: Data, *, must_map: bool = False) -> pa.NativeFile:
    """Returns an Arrow input of a class shard: a memory map if it is local or a copy fits here, otherwise its bytes.

    Args:
        path: path of the shard.
        sha256: checksum of the shard, which names the copy; the caller compares the content with it.
        data: settings; ``disk_cache`` and ``disk_cache_gib`` say where copies are and how much space they may take.
        must_map: refuse to load the shard, since it does not fit into memory.

    Raises:
        FileNotFoundError: there is no such shard.
        UserError: the shard must be mapped, but a copy does not fit on the disk.
    """
    if storage.is_local(path):
        return arrow_files.source(path)
    size, budget = storage.size_of(path), data.disk_cache_gib * GIB
    why = f"data.disk_cache_gib is {data.disk_cache_gib:g}"
    for _ in range(3 if size <= budget else 0):
        try:
            return pa.memory_map(str(_copy(path, sha256, size, _made(data), budget)), "r")
        except FileNotFoundError:
            continue  # another process removed the copy in between
        except OSError as error:  # a full or read-only disk: a run with enough memory needs no copy
            why = error.strerror or str(error)
            break
    if must_map:
        raise UserError(
            f"{path}: {size / GIB:.2f} GiB must be mapped, but a copy does not fit in {folder_of(data)} ({why}); raise "
            "data.disk_cache_gib or choose another data.disk_cache"
        )
    return arrow_files.source(path)


def room_for_copies(data: Data) -> int:
    """Returns the bytes that copies may take on this node: the budget, or the space on its disk if that is less."""
    folder = folder_of(data)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    copies = sum(_size(path) for path in folder.glob("*.arrow"))
    return int(min(data.disk_cache_gib * GIB, shutil.disk_usage(existing).free - SPARE_BYTES + copies))


def forget(path: str, sha256: str, data: Data) -> bool:
    """Removes a damaged copy, unless another process already did. Returns False if the shard itself was read, not a copy."""
    if storage.is_local(path):
        return False
    (folder_of(data) / f"{sha256}.arrow").unlink(missing_ok=True)
    return True


def folder_of(data: Data) -> Path:
    """Returns the folder of this node's copies."""
    return Path(data.disk_cache or Path(tempfile.gettempdir(), f"m3d-class-shards-{os.getuid()}"))


def _made(data: Data) -> Path:
    """The folder of this node's copies, which exists. Raises OSError if the default folder is not ours."""
    folder = folder_of(data)
    if data.disk_cache is None:
        return own_folder(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _copy(path: str, sha256: str, size: int, folder: Path, budget: float) -> Path:
    """The path of the complete copy of a shard, which is fetched unless it exists."""
    copy = folder / f"{sha256}.arrow"
    with contextlib.suppress(FileNotFoundError):
        if copy.stat().st_size == size:
            os.utime(copy)  # used now
            return copy
    _make_room(folder, size, budget)
    unfinished = temporary_beside(copy)
    starts = range(0, size, PART_BYTES)
    try:
        with open(unfinished, "xb") as file:
            parts = in_threads(
                starts,
                lambda start: storage.read_range(path, start, min(size, start + PART_BYTES)),
                min(PARALLEL_PARTS, len(starts) or 1),
                ahead=1,
            )
            for _, part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, copy)
    finally:
        unfinished.unlink(missing_ok=True)
    return copy


def _make_room(folder: Path, size: int, budget: float) -> None:
    """Removes copies, the least recently used first, until ``size`` bytes fit. Raises OSError if the disk is too full."""
    storage.sweep(str(folder), storage.LEFT_BEHIND_S)
    copies = []
    for path in folder.glob("*.arrow"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            copies.append((state.st_mtime_ns, state.st_size, path))
    total = sum(copy_size for _, copy_size, _ in copies)
    for _, copy_size, path in sorted(copies):
        if total + size <= budget and size <= _free(folder):
            return
        path.unlink(missing_ok=True)  # the space is released when no process maps the copy any more
        total -= copy_size
    if size > _free(folder):
        raise OSError(f"{folder}: no space for {size} bytes")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free - SPARE_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
