"""manifest.json of class shards: its types, and how it is written when all shards are there."""

from typing import Any

import numpy as np
from typing_extensions import TypedDict

from pipeline import storage
from pipeline.data.shard_plan import FORMAT, ShardPlan
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import ClassEntry, ShardEntry
from pipeline.storage.documents import EXTENSIBLE, parsed, read_document, sealed
from pipeline.storage.files import REQUESTS, in_threads


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

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    images: list[list[str | int]]


class PreparedManifest(TypedDict):
    """manifest.json of class shards."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    format: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    test_cut_from_train: bool
    classes: list[PreparedClass]


def finish(plan: ShardPlan) -> PreparedManifest:
    """Writes and returns the manifest: classes, moments of the training pixels, and skipped images."""
    records = _records(plan)
    classes: list[dict[str, Any]] = []
    sums, squares, count = np.zeros(plan.channels), np.zeros(plan.channels), 0
    for label in range(len(plan.names)):
        entry: dict[str, Any] = {"label": label, "name": plan.titles[label], "wnid": plan.wnids[label]}
        for split in plan.splits:
            record = records[split, label]
            entry[split] = {
                "file": record["file"],
                "rows": record["rows"],
                "sha256": record["sha256"],
                "bad": record["bad"],
            }
            if split == "train":
                sums += record["sum"]
                squares += record["square"]
                count += record["rows"] * plan.data.image_size**2
        classes.append(entry)
    if not count:
        raise UserError("no image of the training split could be decoded; look at the source, and at data.on_bad_image")
    mean = sums / count / 255
    deviation = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, (1 / 255) ** 2))
    manifest = {
        "format": FORMAT,
        "shape": [plan.channels, plan.data.image_size, plan.data.image_size],
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "test_cut_from_train": plan.cut,
        "classes": classes,
    }
    written = sealed(manifest)
    storage.write_json(storage.join(plan.folder, MANIFEST), written)
    return parsed(PreparedManifest, written, plan.folder)


def _records(plan: ShardPlan) -> dict[tuple[str, int], PreparedRecord]:
    """What was written beside every shard."""

    def record(place: tuple[str, int]) -> PreparedRecord:
        split, label = place
        path = storage.join(plan.folder, f"{split}-{label:05d}.json")
        try:
            return read_document(PreparedRecord, path)
        except FileNotFoundError:
            raise UserError(
                f"{path}: was written on a node but is not seen here; --out or data.cache must be on storage that all nodes share"
            ) from None

    places = [(split, label) for label in range(len(plan.names)) for split in plan.splits]
    return dict(in_threads(places, record, 1 if storage.is_local(plan.folder) else REQUESTS))
