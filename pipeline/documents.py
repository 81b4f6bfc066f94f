"""The JSON documents that stages leave each other, and their check: a damaged one is refused, never half believed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypeVar

from pydantic import ConfigDict, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.errors import UserError

T = TypeVar("T")
SEAL = "checksum"

_STRICT = ConfigDict(extra="allow", strict=False, allow_inf_nan=False)


class ClassEntry(TypedDict):
    """A class of a condensed set."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    label: int
    name: str
    wnid: str


class ShardEntry(TypedDict):
    """A file with what it must hold."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    file: str
    rows: int
    sha256: str


class CondensedManifest(TypedDict):
    """condensed/manifest.json."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    format_version: int
    shards: list[ShardEntry]
    classes: list[ClassEntry]
    images_per_class: int
    factor: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    checksum: str


class PreparedSplit(ShardEntry):
    """One class's images of one split."""

    bad: list[str]


class PreparedRecord(PreparedSplit):
    """The record beside a class shard."""

    sum: list[int]
    square: list[int]


class PreparedClass(ClassEntry):
    """A class with its shards."""

    train: PreparedSplit
    test: PreparedSplit


class ListingDocument(TypedDict):
    """Where the images of a source's class are; what an entry holds is the source's own."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    images: list[list[str | int]]


class PreparedManifest(TypedDict):
    """manifest.json of class shards."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    format: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    test_cut_from_train: bool
    classes: list[PreparedClass]


class StoredPlacement(TypedDict):
    """What config.json keeps of the placement."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    groups: list[list[int]]
    threads: int
    cpus_per_actor: float
    gpus_per_actor: float


class ExecutionEntry(TypedDict):
    """How the step of a run is computed."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    precision: Literal["float32", "tf32", "bfloat16"]
    compiled: bool
    real_block: PositiveInt
    synthetic_block: PositiveInt


class Resolved(TypedDict):
    """What was resolved from a configuration."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    class_shards: str
    classes: list[str]
    learning_rate: float
    placement: StoredPlacement
    execution: ExecutionEntry | None
    device: str | None


class RunRecord(TypedDict):
    """OUT/config.json."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    config: dict[str, Any]
    resolved: Resolved
    versions: dict[str, str]
    commit: NotRequired[str | None]


class GroupRecord(TypedDict):
    """checkpoints/group-00000.json."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    rows: int
    sha256: str
    identity: str


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
