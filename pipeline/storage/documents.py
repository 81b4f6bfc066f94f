"""JSON documents that stages leave each other. A checksum guards each: a damaged document is refused."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from pipeline.errors import UserError
from pipeline.storage.fields import Format
from pipeline.storage.objects import read_json, write_bytes, write_json

T = TypeVar("T")
SEAL = "checksum"
"""Key of the checksum in a document."""

EXTENSIBLE = ConfigDict(extra="allow", strict=False, allow_inf_nan=False)
"""Unknown keys are kept, numbers may be written as other kinds of numbers, and infinities are refused."""


@with_config(EXTENSIBLE)
class Document(TypedDict):
    """Base of the types of JSON objects: a subclass names the keys that must be there, and other keys are kept."""


def read_document(kind: type[T], path: str) -> T:
    """Returns the sealed document in a file, as ``parsed`` checks it. Raises FileNotFoundError, and UserError like ``parsed``."""
    return parsed(kind, read_json(path), path)


def write_document(path: str, value: Mapping[str, Any]) -> None:
    """Writes a document with its checksum as indented JSON, visible at once."""
    write_json(path, sealed(value))


def write_compact_document(path: str, value: Mapping[str, Any], *, end: str = "") -> None:
    """Writes a document with its checksum on one line, visible at once; for documents that programs alone read.

    Args:
        path: local path or URL.
        value: the document.
        end: text after the JSON, such as a newline.
    """
    write_bytes(path, (json.dumps(sealed(value)) + end).encode())


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the document with a checksum of its content under ``checksum``, which reveals every changed digit."""
    content = {key: item for key, item in value.items() if key != SEAL}
    return {**content, SEAL: _checksum(content)}


def parsed(kind: type[T], value: Any, path: str) -> T:
    """Returns a sealed document after checking its checksum and types; keys that the type does not name are kept.

    Raises:
        UserError: the format is newer, the checksum is wrong, or a key is missing or of another type. The message names
            the path.
    """
    _refuse_newer(kind, value, path)
    if not isinstance(value, dict) or value.get(SEAL) != _checksum({k: v for k, v in value.items() if k != SEAL}):
        raise UserError(
            f"{path}: is damaged or was changed by hand (its content does not match its {SEAL!r}); restore it, or delete "
            "it and run the same command again"
        )
    return checked(kind, value, path)


def checked(kind: type[T], value: Any, path: str) -> T:
    """Returns a document without a checksum after checking its types. Raises UserError like ``parsed``."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the document"
        what = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: is damaged or was not written by this program ({key}: {what})") from None


def _refuse_newer(kind: Any, value: Any, path: str) -> None:
    """Raises UserError if the document's number of its format, which ``Format`` marks, is none that is read here."""
    if not isinstance(value, dict):
        return
    for key, hint in get_type_hints(kind, include_extras=True).items():
        reads = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Format)), None)
        if reads is not None:
            require_format(value, key, reads, path)


def require_format(value: Mapping[str, Any], key: str, reads: Format, path: str) -> None:
    """Raises UserError if the number of a format is none that is read here. A missing number is left to the types."""
    number = value.get(key)
    if not isinstance(number, int) or reads.oldest <= number <= reads.newest:
        return
    if number > reads.newest:
        raise UserError(
            f"{path}: was written by a newer version (format {number}; this one reads {reads}); update m3d-condense"
        )
    raise UserError(f"{path}: is damaged: there is no format {number} (this version reads {reads})")


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
