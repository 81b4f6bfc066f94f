"""What a condensing run says about itself: its record, its identity, and the metadata of shards and manifest."""

import json
from typing import NotRequired

from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset, key_of
from pipeline.formats.arrow_schema import LISTED_CLASSES, SHARD_VERSION
from pipeline.formats.condensed_reader import ClassEntry
from pipeline.formats.condensed_writer import DECODE
from pipeline.formats.provenance import DataOrigin, commit, named, origin_of, versions, without_places
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import Resolved, RunRecord
from pipeline.runtime.placement import Placement
from pipeline.storage.documents import checked

CONDENSING_SECTIONS = ("seed", "kernel", "augment", "encoder", "condense")
"""Sections that decide what is condensed from given images."""


class ShardMetadata(TypedDict):
    """The metadata in the schema of every condensed shard, serialised as JSON."""

    format_version: int
    mean: list[float]
    std: list[float]
    factor: int
    decode: str
    """How stored images become training images, in words."""
    subset: str | None
    """Name of the data."""
    class_order: NotRequired[list[str]]
    """Names of all classes of the run, in label order. In sets of more than ``LISTED_CLASSES`` the manifest alone has them."""
    config: dict[str, object]
    """Sections of the configuration that decide what is condensed."""
    versions: dict[str, str]


class ManifestContent(TypedDict):
    """The content of condensed/manifest.json besides its format and its shards."""

    images_per_class: int
    factor: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    classes: list[ClassEntry]
    data: DataOrigin
    config: dict[str, object]
    """Every setting but those that say where something is."""
    versions: dict[str, str]


def run_name(folder: RunFolder, record: RunRecord) -> str:
    """Name of the run in logs and metrics: the name of its folder and the beginning of its identity."""
    return f"{folder.path.rstrip('/').rsplit('/', 1)[-1]}-{identity(record)[:8]}"


def new_record(config: RunConfig, dataset: PreparedDataset, placement: Placement) -> RunRecord:
    """The record of a new run. Execution and device are filled in once the first actor has started."""
    resolved = Resolved(
        class_shards=dataset.folder,
        classes=[entry["name"] for entry in dataset.classes],
        learning_rate=config.condense.step_size,
        placement=placement.stored(),
        execution=None,
        device=None,
    )
    record = RunRecord(config=to_dict(config), resolved=resolved, versions=versions(), commit=commit())
    return checked(RunRecord, record, "config.json")


def identity(record: RunRecord) -> str:
    """Checksum of everything that a group's bytes depend on. Results of another identity are not used."""
    data = record["config"].get("data", {})
    resolved = record["resolved"]
    parts = {
        "config": {key: record["config"].get(key) for key in CONDENSING_SECTIONS},
        "data": {key: data.get(key) for key in ("validation_fraction", "split_seed")},
        "shards": key_of(resolved["class_shards"]),
        "groups": resolved["placement"]["groups"],
        "threads": resolved["placement"]["threads"],
    }
    return storage.sha256(json.dumps(parts, sort_keys=True).encode())[:32]


def shard_metadata(config: RunConfig, dataset: PreparedDataset, record: RunRecord) -> ShardMetadata:
    """The metadata of a run's shards. It has no time and no host, so that the same run gives the same bytes."""
    mean, std = dataset.moments
    names = [entry["name"] for entry in dataset.classes]
    listed = len(names) <= LISTED_CLASSES
    metadata = ShardMetadata(
        format_version=1 if listed else SHARD_VERSION,
        mean=list(mean),
        std=list(std),
        factor=config.condense.factor,
        decode=DECODE,
        subset=config.data.subset or (config.data.name if config.data.source == "torchvision" else config.data.source),
        config={key: record["config"].get(key) for key in CONDENSING_SECTIONS},
        versions=record["versions"],
    )
    return {**metadata, "class_order": names} if listed else metadata


def condensed_manifest(config: RunConfig, dataset: PreparedDataset, record: RunRecord) -> ManifestContent:
    """The manifest's content besides its shards: classes in label order, how to decode and how to normalise."""
    mean, std = dataset.moments
    classes = len(dataset.classes)
    return ManifestContent(
        images_per_class=config.condense.images_per_class,
        factor=config.condense.factor,
        shape=dataset.manifest["shape"],
        mean=list(mean),
        std=list(std),
        classes=[ClassEntry(label=entry["label"], name=entry["name"], wnid=entry["wnid"]) for entry in dataset.classes],
        data=origin_of(config.data, classes, dataset.counts),
        config=to_dict(without_places(config, named(config.data, classes, dataset.counts))),
        versions=record["versions"],
    )
