"""The JSON documents that stages leave each other, and their check: a damaged one is refused, never half believed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import UserError
from pipeline.storage.objects import read_json, write_json

T = TypeVar("T")
SEAL = "checksum"

EXTENSIBLE = ConfigDict(extra="allow", strict=False, allow_inf_nan=False)


def read_document(kind: type[T], path: str) -> T:
    """The sealed document in a file, as ``parsed`` checks it. Raises FileNotFoundError, and UserError like ``parsed``."""
    return parsed(kind, read_json(path), path)


def write_document(path: str, value: Mapping[str, Any]) -> None:
    """Writes a document with its checksum as indented JSON, visible at once."""
    write_json(path, sealed(value))


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document with a checksum of its content under ``checksum``: a changed digit does not go unnoticed."""
    content = {key: item for key, item in value.items() if key != SEAL}
    return {**content, SEAL: _checksum(content)}


def parsed(kind: type[T], value: Any, path: str) -> T:
    """A sealed document, its checksum and types compared; keys that it does not know are kept.

    Raises:
        UserError: the checksum is off, or a key is missing or of another type; named with the path.
    """
    if not isinstance(value, dict) or value.get(SEAL) != _checksum({k: v for k, v in value.items() if k != SEAL}):
        raise UserError(
            f"{path}: is damaged or was changed by hand (its content does not fit its {SEAL!r}); restore it, or delete "
            "it and run the same command again"
        )
    return checked(kind, value, path)


def checked(kind: type[T], value: Any, path: str) -> T:
    """A document without a checksum, its types compared. Raises UserError like ``parsed``."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UserError(f"{path}: is damaged or was not written by this program ({key}: {first['msg']})") from None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
