"""A large object that is written piece by piece and becomes visible at once."""

import contextlib
import hashlib
import os
import tempfile
import uuid
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.objects import _do, opened, sweep, unwritable, unwritable_temporary
from pipeline.storage.paths import is_local, is_s3

UPLOAD_LEFT_S = 24 * 3600.0
"""Age from which a file that waits to be sent counts as left by a process that was killed."""


class AtomicWriter:
    """A large object that is written piece by piece and becomes visible at once, by ``commit``.

    Locally the pieces go to a file beside the place, else to a temporary file that is sent when it is whole.

    Raises:
        UserError: from every method, for no room, no permission or a read-only file system.
    """

    closed = False

    def __init__(self, path: str) -> None:
        _, self._root = opened(path)
        self._path, self._hash = path, hashlib.sha256()
        local = is_local(path)
        self._place = Path(self._root) if local else None
        folder = Path(self._root).parent if local else Path(tempfile.gettempdir(), f"m3d-uploads-{os.getuid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not local:
                sweep(str(folder), UPLOAD_LEFT_S)
            self._beside = folder / f".{self._root.rsplit('/', 1)[-1]}.{uuid.uuid4().hex}.tmp"
            self._file = open(self._beside, "wb")  # noqa: SIM115 (closed by commit or discard)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, data: bytes) -> int:
        """Appends."""
        self._hash.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            raise self._unwritable(error) from None

    def commit(self) -> str:
        """Makes the object visible; returns its checksum, like ``sha256``."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._place is not None:
                os.replace(self._beside, self._place)
            else:
                parts = {"chunksize": s3.PART_BYTES} if is_s3(self._path) else {}
                _do(self._path, lambda fs, root: fs.put_file(str(self._beside), root, **parts))
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self.discard()
        return self._hash.hexdigest()

    def _unwritable(self, error: OSError) -> UserError:
        if self._place is None and error.errno is not None:  # of this machine's disk; a store's errors have no number
            return unwritable_temporary(error)
        return unwritable(self._path, error)

    def discard(self) -> None:
        """Forgets what is not committed; may be called at any time."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._beside.unlink(missing_ok=True)
