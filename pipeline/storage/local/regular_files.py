"""Local files of which nothing is trusted: only regular ones are opened, and their size is checked before memory is taken.

A pipe without a writer would block the reader, a device has no end, and the size of a file may be absurd. Whatever reads
a local file opens it here.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import UserError

MOST_BYTES = 16 * 2**30
"""Largest file that is read into memory as a whole."""
DOCUMENT_BYTES = 2**30
"""Largest JSON document of a stage: a listing of several million images."""
IMAGE_BYTES = 2**30
"""Largest encoded image, which is more than an uncompressed one of the allowed number of pixels takes."""
LIST_BYTES = 2**24
"""Largest configuration or list of classes: more than one of a hundred thousand classes takes."""
SETTINGS_BYTES = 2**18
"""Largest file that people write by hand, such as a search space."""

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a local file for reading.

    Raises:
        OSError: there is no such file, it is a folder, or it may not be read.
        UserError: it is a pipe, a socket or a device.
    """
    _require_regular(path, os.stat(path).st_mode)  # opening alone can block, or start something on a device
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been replaced in between
    except BaseException:
        file.close()
        raise
    return file


def read_part(path: str | Path, start: int = 0, end: int | None = None, most: int = MOST_BYTES) -> bytes:
    """Returns the bytes of a local file from ``start`` up to, not including, ``end``; fewer if it ends before.

    Args:
        path: the file.
        start: first byte.
        end: the byte after the last one. Defaults to the end of the file.
        most: largest number of bytes.

    Raises:
        OSError: as ``open_regular``.
        UserError: as ``open_regular``, or the bytes are more or do not fit into memory.
    """
    with open_regular(path) as file:
        last = os.fstat(file.fileno()).st_size
        size = max(0, (last if end is None else min(end, last)) - start)
        require_size(path, size, most)
        file.seek(start)
        try:
            return file.read(size)
        except MemoryError:
            raise UserError(f"{path}: its {size} bytes do not fit into memory") from None


def require_size(path: str | Path, size: int, most: int) -> None:
    """Raises UserError if a file has more than ``most`` bytes."""
    if size > most:
        raise UserError(f"{path}: has {size} bytes; allowed for a file of this kind: at most {most}")


def _require_regular(path: str | Path, mode: int) -> None:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # opening or reading a folder raises its own error
        return
    kind = next((name for holds, name in _KINDS if holds(mode)), "no file")
    raise UserError(f"{path}: is {kind}, which is not read; give a regular file")
