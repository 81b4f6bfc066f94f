"""Files and folders of this machine, by the operating system alone. Every path is taken as it is written."""

import os
from typing import BinaryIO

from pipeline.errors import UserError
from pipeline.storage.local.regular_files import MOST_BYTES, open_regular, read_part
from pipeline.storage.local.temporary_names import temporary_beside
from pipeline.storage.paths import is_local, local_path


def exists(path: str) -> bool:
    """Whether a file or folder exists."""
    return os.path.exists(local_path(path))


def is_folder(path: str) -> bool:
    """Whether a folder exists."""
    return os.path.isdir(local_path(path))


def size_of(path: str) -> int:
    """Returns the size of a file in bytes. Raises FileNotFoundError."""
    return local_path(path).stat().st_size


def read(path: str, start: int = 0, end: int | None = None, most: int = MOST_BYTES) -> bytes:
    """Returns the bytes of a file from ``start`` up to, not including, ``end``.

    Args:
        path: the file.
        start: first byte.
        end: the byte after the last one. Defaults to the end of the file.
        most: largest number of bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no regular file, larger, or cannot be read.
    """
    try:
        return read_part(local_path(path), start, end, most)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None


def opened(path: str) -> BinaryIO:
    """Opens a file for reading. Raises OSError, and UserError for a pipe, a socket or a device."""
    return open_regular(local_path(path))


def write(path: str, data: bytes | memoryview) -> None:
    """Writes a complete file, visible at once. A link at the path is replaced, not followed. Raises OSError."""
    target = local_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary_beside(target)
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def append_line(path: str, line: str) -> None:
    """Appends a line to a file, which must not be a link: it would lead out of its folder. Raises OSError."""
    target = local_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(descriptor, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def remove(path: str) -> None:
    """Removes a file. Raises FileNotFoundError."""
    os.remove(local_path(path))


def is_link(path: str) -> bool:
    """Whether a path is a link on this machine, which may lead anywhere."""
    return is_local(path) and local_path(path).is_symlink()


def require_no_link(path: str) -> None:
    """Raises UserError if a folder to write to is a link, which may lead anywhere, in a folder that may be foreign."""
    if is_link(path):
        raise UserError(f"{path}: is a link, which may lead out of the folder; replace it by a folder")


def entries(path: str) -> list[tuple[str, str]]:
    """Returns name and kind, ``file`` or ``directory``, of everything directly in a folder; nothing if there is no folder."""
    folder = local_path(path)
    kinds = {True: "directory", False: "file"}
    return [(entry.name, kinds[entry.is_dir()]) for entry in os.scandir(folder)] if folder.is_dir() else []
