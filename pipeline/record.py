"""OUT/config.json: the configuration of a run with everything that was resolved from it, and its identity."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.documents import RunRecord, checked, sealed
from pipeline.ledger import refuse_another
from pipeline.plan import Placement
from pipeline.settings import differing_keys, from_dict, to_dict

PACKAGES = ("m3d-condense", "torch", "torchvision", "ray", "pyarrow", "numpy")
METHOD = ("seed", "kernel", "augment", "encoder", "condense")
"""Sections that decide what is condensed from given images."""
FREE = ("resources.", "storage", "tune", "pretrain.", "data.cache", "data.disk_cache", "data.download")
"""Keys that a run may change when it goes on: they move work, or train other networks, and change none of its bytes."""


def new_record(config: RunConfig, cache: ClassCache, placement: Placement) -> RunRecord:
    """What a new run writes to config.json. The execution is filled in when the first actor knows its device."""
    record = {
        "config": to_dict(config),
        "resolved": {
            "class_shards": cache.folder,
            "classes": [entry["name"] for entry in cache.classes],
            "learning_rate": config.condense.step_size,
            "placement": placement.as_dict(),
            "execution": None,
            "device": None,
        },
        "versions": versions(),
        "commit": commit(),
    }
    return checked(RunRecord, record, "config.json")


def add_commit(record: RunRecord) -> bool:
    """Names the commit that goes on with a run beside those before it; whether that changes the record."""
    before = record.get("commit")
    record["commit"] = joined(before, commit())
    return record["commit"] != before


def joined(before: str | None, now: str | None) -> str | None:
    """The commits that had a part in something, in their order, with commas between them."""
    if not before or not now:
        return before or now
    return before if now in before.split(", ") else f"{before}, {now}"


def write_record(out: str, record: RunRecord) -> None:
    """Writes config.json."""
    storage.write_json(storage.join(out, "config.json"), sealed(record))


def check_same_run(out: str, record: RunRecord, config: RunConfig) -> None:
    """Raises UserError where the folder's run has other settings, naming them."""
    # A setting that is younger than the record has its default there.
    held = from_dict(record["config"], origin=storage.join(out, "config.json"))
    differing = differing_keys(to_dict(held), to_dict(config))
    refuse_another(out, [key for key in differing if not f"{key}.".startswith(FREE)])


def identity(record: RunRecord) -> str:
    """A checksum of all that a group's bytes depend on; markers and checkpoints of another one do not count."""
    config = {key: record["config"].get(key) for key in METHOD}
    data = {key: record["config"].get("data", {}).get(key) for key in ("validation_fraction", "split_seed")}
    resolved = record["resolved"]
    parts = {
        "config": config,
        "data": data,
        "shards": resolved["class_shards"].rsplit("/", 1)[-1],
        "groups": resolved["placement"]["groups"],
        "threads": resolved["placement"]["threads"],
    }
    return storage.sha256(json.dumps(parts, sort_keys=True).encode())[:32]


def shard_metadata(config: RunConfig, cache: ClassCache, record: RunRecord) -> dict[str, Any]:
    """What every shard says of itself. No clock and no host, so that the same run gives the same bytes."""
    mean, std = cache.moments
    return {
        "format_version": 1,
        "mean": list(mean),
        "std": list(std),
        "factor": config.condense.factor,
        "decode": "split into factor x factor tiles, pad right and bottom with 0.5, up-sample bilinearly (align_corners=False)",
        "subset": config.data.subset
        or (config.data.name if config.data.source == "torchvision" else config.data.source),
        "class_order": [entry["name"] for entry in cache.classes],
        "config": {key: record["config"].get(key) for key in METHOD},
        "versions": record["versions"],
    }


def condensed_manifest(config: RunConfig, cache: ClassCache, record: RunRecord) -> dict[str, Any]:
    """What manifest.json says besides the shards: classes in label order, how to decode and to normalise."""
    mean, std = cache.moments
    return {
        "images_per_class": config.condense.images_per_class,
        "factor": config.condense.factor,
        "shape": cache.manifest["shape"],
        "mean": list(mean),
        "std": list(std),
        "classes": [{key: entry[key] for key in ("label", "name", "wnid")} for entry in cache.classes],
        "config": to_dict(config),
        "versions": record["versions"],
    }


def versions() -> dict[str, str]:
    """Of this project and of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The commit of the checkout that runs, with ``-dirty`` where files differ from it; None outside of one."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
