"""Folders of fixed names inside a shared temporary folder, used only if they belong to this user."""

import atexit
import errno
import os
import shutil
import stat
import tempfile
from functools import lru_cache
from pathlib import Path


def own_folder(path: Path) -> Path:
    """Creates a folder for this user alone, or returns it if it is ours already; others lose their rights to it.

    In a temporary folder that all users share, somebody else may have made it, or a link of its name.

    Raises:
        OSError: it is a link or no folder, or belongs to another user.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is a link or no folder", str(path)) from None
        if found.st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "belongs to another user", str(path)) from None
        if found.st_mode & 0o077:
            os.chmod(path, 0o700)
    return path


def temporary_folder(name: str) -> Path:
    """Returns this user's folder NAME-UID inside the temporary folder, or a new one if that name is taken. Raises OSError."""
    wanted = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
    try:
        return own_folder(wanted)
    except OSError:
        return _new_folder(name, tempfile.gettempdir())


@lru_cache(maxsize=8)
def _new_folder(name: str, inside: str) -> Path:
    """One folder for the life of the process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=inside))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)
