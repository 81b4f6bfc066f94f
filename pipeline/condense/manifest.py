"""What a condensing run says of itself: its record, its identity, and the metadata of shards and manifest."""

import json
from typing import Any

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset, key_of
from pipeline.formats.provenance import commit, versions
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.runtime.placement import Placement
from pipeline.storage.documents import checked


def run_name(folder: RunFolder, record: RunRecord) -> str:
    """How logs and metrics call the run: its folder, and the beginning of its identity."""
    return f"{folder.path.rstrip('/').rsplit('/', 1)[-1]}-{identity(record)[:8]}"


METHOD = ("seed", "kernel", "augment", "encoder", "condense")
"""Sections that decide what is condensed from given images."""


def new_record(config: RunConfig, cache: PreparedDataset, placement: Placement) -> RunRecord:
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


def identity(record: RunRecord) -> str:
    """A checksum of all that a group's bytes depend on; markers and checkpoints of another one do not count."""
    config = {key: record["config"].get(key) for key in METHOD}
    data = {key: record["config"].get("data", {}).get(key) for key in ("validation_fraction", "split_seed")}
    resolved = record["resolved"]
    parts = {
        "config": config,
        "data": data,
        "shards": key_of(resolved["class_shards"]),
        "groups": resolved["placement"]["groups"],
        "threads": resolved["placement"]["threads"],
    }
    return storage.sha256(json.dumps(parts, sort_keys=True).encode())[:32]


def shard_metadata(config: RunConfig, cache: PreparedDataset, record: RunRecord) -> dict[str, Any]:
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


def condensed_manifest(config: RunConfig, cache: PreparedDataset, record: RunRecord) -> dict[str, Any]:
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
