"""A large object that is written piece by piece and becomes visible at once."""

import contextlib
import contextvars
import hashlib
import os
from typing import Any

from m3d.backend.own_folder import temporary_folder
from m3d.pulse import beat
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.local.temporary_names import temporary_beside
from pipeline.storage.objects import LEFT_BEHIND_S, operate, sweep, unwritable, unwritable_temporary
from pipeline.storage.paths import is_local, is_s3, local_path, require_url


class AtomicWriter:
    """A large object that is written piece by piece and becomes visible at once, by ``commit``.

    The pieces of a local file go to a hidden file beside it; those of another object go to a temporary file, which is
    uploaded when it is complete.

    Raises:
        UserError: from every method, if there is no space or no permission, or the file system is read-only.
    """

    closed = False

    def __init__(self, path: str) -> None:
        self._path, self._hash = path, hashlib.sha256()
        self._target = local_path(path) if is_local(path) else None
        try:
            if self._target is not None:
                folder = self._target.parent
                folder.mkdir(parents=True, exist_ok=True)
            else:
                require_url(path)
                folder = temporary_folder("m3d-uploads")
                sweep(str(folder), LEFT_BEHIND_S)
            self._beside = temporary_beside(folder / path.rsplit("/", 1)[-1])
            self._file = open(self._beside, "xb")  # noqa: SIM115 (closed by commit or discard)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, data: bytes) -> int:
        """Appends a piece; returns its length in bytes."""
        beat()
        self._hash.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            raise self._unwritable(error) from None

    def commit(self) -> str:
        """Makes the object visible; returns its checksum, as ``sha256`` computes it. Every uploaded piece beats."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._target is not None:
                os.replace(self._beside, self._target)
            else:
                options: dict[str, Any] = {"chunksize": s3.PART_BYTES} if is_s3(self._path) else {}
                options["callback"] = _beating()
                operate(self._path, lambda fs, root: fs.put_file(str(self._beside), root, **options))
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            self.discard()
        return self._hash.hexdigest()

    def _unwritable(self, error: OSError) -> UserError:
        if self._target is None and error.errno is not None:  # this machine's disk; errors of a store have no number
            return unwritable_temporary(error)
        return unwritable(self._path, error)

    def discard(self) -> None:
        """Drops everything that is not committed; may be called at any time."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._beside.unlink(missing_ok=True)


def _beating() -> Any:
    """What fsspec calls after every part of an upload, on a thread of its own."""
    from fsspec.callbacks import Callback  # not at the top, as in ``objects.opened``

    context = contextvars.copy_context()
    return Callback(hooks={"beat": lambda *_, **__: context.run(beat)})
