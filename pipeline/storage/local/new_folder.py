"""A folder of files that becomes visible at once, when everything in it is written."""

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.local.temporary_names import is_left_behind, temporary_beside


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Yields the folder to write to, whose content is visible as ``path`` when the block ends without an error.

    A local folder is written beside and renamed. In a bucket, files are visible one by one; the caller writes the one
    that marks the others as complete last.

    Args:
        path: absolute path or URL, of which nothing exists but perhaps an empty folder.

    Raises:
        UserError: there is something at the path, or it cannot be written.
    """
    require_new(path)
    if not storage.is_local(path):
        yield path
        return
    target = Path(os.path.realpath(path))  # a link to an empty folder stays a link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        beside = temporary_beside(target)
        beside.mkdir()
    except OSError as error:
        raise storage.unwritable(path, error) from None
    try:
        yield str(beside)
        try:
            os.replace(beside, target)
        except OSError as error:
            raise storage.unwritable(path, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require_new(path: str) -> None:
    """Raises UserError if anything is at a path but an empty folder. Called before long work, too."""
    if not storage.is_local(path):
        occupied = storage.exists(path) and bool(storage.files_below(path) or storage.folders_below(path))
    else:
        try:
            occupied = os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path))
        except OSError as error:
            raise storage.unwritable(path, error) from None
    if occupied:
        raise UserError(f"{path}: is not empty; choose another --out, or delete it first")


def _sweep(target: Path) -> None:
    """Removes what killed writers of the same folder left beside it."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just renamed or removed it
            if path.is_dir() and not path.is_symlink() and is_left_behind(path, storage.LEFT_BEHIND_S):
                shutil.rmtree(path, ignore_errors=True)
