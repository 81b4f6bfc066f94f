"""What the file of a stranger claims about its tensors, checked before torch takes memory for them.

torch believes the sizes in a file: of a storage, of a compressed member, of a view with steps of 0. Here the file's pickle
is read once without making anything: only plain tensors are allowed, and each must lie within the bytes that are there.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PICKLE_BYTES = 2**21
"""Largest pickle of a file. Tensors are stored apart from it."""
_NAMES = """
    APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST EMPTY_TUPLE
    GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS SHORT_BINSTRING STOP TUPLE
    TUPLE1 TUPLE2 TUPLE3
"""
OPCODES = frozenset(_NAMES.split())
"""Operations of a pickle that torch writes for tensors, texts, numbers, lists and dictionaries."""
ITEM_BYTES = {
    **dict.fromkeys(("Double", "Long"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool"), 1),
}
"""Bytes of a number by the name of its storage."""
LEGACY_PICKLES = 5
"""Pickles at the beginning of a file of torch before 1.6: number, version, system, content, keys of the storages."""
_PICKLE = "data.pkl"


def checked(data: bytes) -> bytes:
    """Returns a file of tensors that holds what it claims, for ``torch.load``.

    Raises:
        ValueError: it is no such file, or it claims more than it holds; the message says what.
    """
    try:
        if data[:2] == b"PK":
            return _checked_archive(data)
        _check_legacy(data)
        return data
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None
    except (pickle.UnpicklingError, LookupError, TypeError, AttributeError, EOFError, RecursionError) as error:
        raise ValueError(f"a damaged pickle: {type(error).__name__}") from None
    except NotImplementedError as error:  # an encrypted or a strangely compressed archive
        raise ValueError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """Numbers that a file stores."""

    item_bytes: int
    count: int


def _checked_archive(data: bytes) -> bytes:
    """The archive written again from what was checked, so that torch cannot find other members in it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise ValueError("an archive with compressed members, which torch.save does not write")
        if len(set(names)) != len(names) or sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("an archive whose members overlap")
        folder = next((name.removesuffix(_PICKLE) for name in names if name.endswith(f"/{_PICKLE}")), "")
        members = {
            name.removeprefix(folder): archive.read(name) for name in names if folder and name.startswith(folder)
        }
    if _PICKLE not in members:
        raise ValueError("an archive without data.pkl")
    stored = {name.removeprefix("data/"): len(content) for name, content in members.items()}
    _Claims(members[_PICKLE], stored).load()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return written.getvalue()


def _check_legacy(data: bytes) -> None:
    start, claimed = 0, {}
    for _ in range(LEGACY_PICKLES):
        claims = _Claims(data[start : start + PICKLE_BYTES], None)
        claims.load()
        claimed.update(claims.claimed)
        start += claims.length
    if sum(claimed.values()) > len(data) - start:
        raise ValueError(f"storages of {sum(claimed.values())} bytes in a file of {len(data)}")


class _Claims(pickle._Unpickler):
    """Reads a pickle without making what it describes; keeps the bytes of every storage."""

    def __init__(self, data: bytes, stored: Mapping[str, int] | None) -> None:
        """Args: what begins with the pickle, and the bytes of each storage by key, if they are known."""
        if stored is not None and len(data) > PICKLE_BYTES:
            raise ValueError(f"a pickle of {len(data)} bytes, allowed: at most {PICKLE_BYTES}")
        self.length = 0
        for opcode, _, position in pickletools.genops(data):
            if opcode.name not in OPCODES:
                raise ValueError(f"a pickle with the operation {opcode.name}, which torch does not write for tensors")
            self.length = (position or 0) + 1
        super().__init__(io.BytesIO(data[: self.length]), encoding="latin1")
        self._stored = stored
        self.claimed: dict[str, int] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns what stands for a class or function; none of them runs."""
        full = f"{module}.{name}"
        if module == "torch" and name.removesuffix("Storage") in ITEM_BYTES:
            return ITEM_BYTES[name.removesuffix("Storage")]
        if full not in _ALLOWED:
            raise ValueError(f"{full[:80]}, which is not allowed in a file of tensors")
        return _ALLOWED[full]

    def persistent_load(self, pid: Any) -> _Storage:
        """Returns the storage that a tensor lies in."""
        kind, item_bytes, key, _, count, *_ = pid
        if kind != "storage" or not isinstance(item_bytes, int) or not _is_size(count):
            raise ValueError("a storage of another kind")
        size = item_bytes * count
        if self._stored is not None and self._stored.get(key) != size:
            raise ValueError(f"a storage of {size} bytes, of which {self._stored.get(key, 0)} are in the file")
        self.claimed[str(key)] = max(size, self.claimed.get(str(key), 0))
        return _Storage(item_bytes=item_bytes, count=count)


class _Inert:
    """Stands for a value that is not looked at."""

    def __init__(self, *_: Any) -> None:
        """Ignores what the value is made from."""

    def __setstate__(self, state: Any) -> None:
        """Ignores what is set."""


class _Dtype:
    """Stands for the type of numpy's scalars; one of another size would be read beyond its bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        """Refuses what is no plain number."""
        if name not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise ValueError(f"the type {str(name)[:40]}, which is no number")

    def __setstate__(self, state: Any) -> None:
        """Refuses what numpy does not write for a number."""
        if len(state) != 8 or state[2:7] != (None, None, None, -1, -1):
            raise ValueError("a damaged type of numbers")


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Inert:
    """Refuses a tensor that is larger than its storage, as a view with steps of 0 is."""
    whole = isinstance(storage, _Storage) and isinstance(size, tuple) and all(map(_is_size, size))
    if not whole or math.prod(size) > storage.count:
        raise ValueError(
            "a tensor that is larger than its storage, such as an expanded one; save a copy of it (.clone())"
        )
    return _Inert()


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**62


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {str(encoding)[:40]}")
    return text.encode(encoding)


_ALLOWED: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_parameter": _Inert,
    "collections.OrderedDict": OrderedDict,
    # Numpy's scalars: accuracies in files of DC and DSA.
    "numpy.core.multiarray.scalar": _Inert,
    "numpy._core.multiarray.scalar": _Inert,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _latin1,
}
