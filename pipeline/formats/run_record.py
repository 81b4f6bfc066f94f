"""OUT/config.json: the configuration of a run with everything that was resolved from it, and its identity."""

from typing import Any, Literal, NotRequired

from pydantic import PositiveInt
from typing_extensions import TypedDict

from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed
from pipeline.formats.provenance import commit, joined
from pipeline.storage.documents import EXTENSIBLE


class StoredPlacement(TypedDict):
    """What config.json keeps of the placement."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    groups: list[list[int]]
    threads: int
    cpus_per_actor: float
    gpus_per_actor: float
    actors: NotRequired[int]


class ExecutionEntry(TypedDict):
    """How the step of a run is computed."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    precision: Literal["float32", "tf32", "bfloat16"]
    compiled: bool
    real_block: PositiveInt
    synthetic_block: PositiveInt


class Resolved(TypedDict):
    """What was resolved from a configuration."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    class_shards: str
    classes: list[str]
    learning_rate: float
    placement: StoredPlacement
    execution: ExecutionEntry | None
    device: str | None


class RunRecord(TypedDict):
    """OUT/config.json."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    config: dict[str, Any]
    resolved: Resolved
    versions: dict[str, str]
    commit: NotRequired[str | None]


def refuse_another(out: str, differing: list[str]) -> None:
    """Raises UserError naming the keys in which the folder's run is another one."""
    if differing:
        raise UserError(
            f"{out}: holds a run of another configuration, differing in {listed(differing)}; "
            "choose another --out, or give the same settings to go on with it"
        )


FREE = ("resources.", "storage", "tune", "pretrain.", "data.cache", "data.disk_cache", "data.download")
"""Keys that a run may change when it goes on: they move work, or train other networks, and change none of its bytes."""


def add_commit(record: RunRecord) -> bool:
    """Names the commit that goes on with a run beside those before it; whether that changes the record."""
    before = record.get("commit")
    record["commit"] = joined(before, commit())
    return record["commit"] != before


def differing_settings(record: RunRecord, config: RunConfig, origin: str) -> list[str]:
    """Keys in which a configuration is not that of a run's record, those aside that a run may change."""
    # A setting that is younger than the record has its default there.
    stored = from_dict(record["config"], origin=origin)
    return [key for key in differing_keys(to_dict(stored), to_dict(config)) if not f"{key}.".startswith(FREE)]
