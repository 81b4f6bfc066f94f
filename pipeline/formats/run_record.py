"""OUT/config.json: the configuration of a run with everything that was resolved from it, and its identity."""

from typing import Any, Literal, NotRequired

from pydantic import PositiveInt
from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed
from pipeline.formats.provenance import commit, joined
from pipeline.storage.documents import _STRICT, parsed, sealed


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


def read_run(out: str) -> RunRecord | None:
    """OUT/config.json, or None where there is none."""
    path = storage.join(out, "config.json")
    try:
        run = storage.read_json(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(f"{out}: is a file, or lies below one; give a folder") from None
    return parsed(RunRecord, run, path)


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


def write_record(out: str, record: RunRecord) -> None:
    """Writes config.json."""
    storage.write_json(storage.join(out, "config.json"), sealed(record))


def check_same_run(out: str, record: RunRecord, config: RunConfig) -> None:
    """Raises UserError where the folder's run has other settings, naming them."""
    # A setting that is younger than the record has its default there.
    held = from_dict(record["config"], origin=storage.join(out, "config.json"))
    differing = differing_keys(to_dict(held), to_dict(config))
    refuse_another(out, [key for key in differing if not f"{key}.".startswith(FREE)])
