"""JSON documents that stages leave each other. A checksum guards each: a damaged document is refused."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from pipeline.errors import UserError
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
        UserError: the checksum is wrong, or a key is missing or of another type. The message names the path.
    """
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
        raise UserError(f"{path}: is damaged or was not written by this program ({key}: {first['msg']})") from None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
