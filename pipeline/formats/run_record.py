"""OUT/config.json: the configuration of a run, everything that was resolved from it, and which settings may change."""

from typing import Any, Literal, NotRequired

from pydantic import PositiveInt

from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed
from pipeline.formats.provenance import commit, joined
from pipeline.storage.documents import Document
from pipeline.storage.fields import KeyedFolder


class StoredPlacement(Document):
    """Placement of a run: its groups of classes, and the resources of an actor."""

    groups: list[list[int]]
    threads: int
    cpus_per_actor: float
    gpus_per_actor: float
    actors: NotRequired[int]


class ExecutionEntry(Document):
    """How the steps of a run are computed."""

    precision: Literal["float32", "tf32", "bfloat16"]
    compiled: bool
    real_block: PositiveInt
    synthetic_block: PositiveInt


class Resolved(Document):
    """Values that were resolved from a configuration."""

    class_shards: KeyedFolder
    classes: list[str]
    learning_rate: float
    placement: StoredPlacement
    execution: ExecutionEntry | None
    device: str | None


class RunRecord(Document):
    """OUT/config.json."""

    config: dict[str, Any]
    resolved: Resolved
    versions: dict[str, str]
    commit: NotRequired[str | None]


def refuse_another(out: str, differing: list[str]) -> None:
    """Raises UserError if the folder's run differs in some keys, and names them."""
    if differing:
        raise UserError(
            f"{out}: holds a run of another configuration, differing in {listed(differing)}; "
            "choose another --out, or give the same settings to resume it"
        )


MAY_CHANGE_ON_RESUME = (
    "resources.",
    "storage",
    "tune",
    "report.",
    "pretrain.",
    "data.cache",
    "data.disk_cache",
    "data.download",
)
"""Beginnings of keys that may change when a run is resumed: they change where work runs, which other networks are
trained or what the page shows, not the condensed set."""


def add_commit(record: RunRecord) -> bool:
    """Appends the current commit to the record. Returns True if the record changed."""
    before = record.get("commit")
    record["commit"] = joined(before, commit())
    return record["commit"] != before


def differing_settings(record: RunRecord, config: RunConfig, origin: str) -> list[str]:
    """Returns the keys in which a configuration differs from a run's record, except those that may change."""
    # A setting that is newer than the record has its default value.
    stored = from_dict(record["config"], origin=origin)
    return [
        key
        for key in differing_keys(to_dict(stored), to_dict(config))
        if not f"{key}.".startswith(MAY_CHANGE_ON_RESUME)
    ]
