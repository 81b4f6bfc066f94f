"""Members of a tar file that nobody vouches for: what its headers claim neither takes memory nor makes the reading endless."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from pipeline.errors import UserError, first_line
from pipeline.storage.files import open_binary

PIECE_BYTES = 2**20
"""Most bytes of a header, such as a long name, and of a text that describes a sample."""


@contextmanager
def open_tar(path: str, buffer: int) -> Iterator[tarfile.TarFile]:
    """Opens a plain tar file. Raises UserError, here and while it is open, if it is not a complete one.

    Args:
        path: local path or URL.
        buffer: as for ``open_binary``.
    """
    try:
        with open_binary(path, buffer) as stream:
            pieces = cast(IO[bytes], _Pieces(stream))
            with tarfile.open(fileobj=pieces, mode="r:") as tar:
                yield tar
    except UserError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{path}: is not a complete plain tar file ({first_line(error)}); fetch it again, or unpack it"
        ) from None


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the members. Raises tarfile.ReadError for sparse ones, which stand for more bytes than the tar has."""
    end = -1
    for member in tar:
        if tar.offset <= end or member.size < 0:
            raise tarfile.ReadError(f"the size of member {member.name[:80]!r} is negative")
        end = tar.offset
        if member.issparse():
            raise tarfile.ReadError(f"member {member.name[:80]!r} is sparse")
        yield member


def text_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Returns the content of a member that describes a sample. Raises tarfile.ReadError if it is too long."""
    if member.size > PIECE_BYTES:
        raise tarfile.ReadError(f"member {member.name[:80]!r} has {member.size} bytes, allowed: at most {PIECE_BYTES}")
    content = tar.extractfile(member)
    return content.read() if content else b""


class _Pieces:
    """A stream that is read in small pieces only: tarfile would take as much memory as a header claims to need."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes."""
        if not 0 <= size <= PIECE_BYTES:
            raise tarfile.ReadError(f"a header has {size} bytes, allowed: at most {PIECE_BYTES}")
        return self._stream.read(size)
