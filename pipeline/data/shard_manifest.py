"""manifest.json of class shards: its types, and how it is written once all shards exist."""

from typing import Annotated

import numpy as np

from pipeline import storage
from pipeline.data.shard_plan import FORMAT, ShardPlan
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import ClassEntry, ShardEntry
from pipeline.storage.documents import Document, read_document, write_document
from pipeline.storage.fields import Format
from pipeline.storage.files import REQUESTS, in_threads


class PreparedSplit(ShardEntry):
    """Shard of one class and one split."""

    bad: list[str]
    """Places of the images that could not be decoded and were skipped, each with the reason."""


class PreparedRecord(PreparedSplit):
    """Record beside a class shard."""

    sum: list[int]
    """Sum of the pixels, 0 to 255, by channel."""
    square: list[int]
    """Sum of their squares, by channel."""


class PreparedClass(ClassEntry):
    """A class with its shards."""

    train: PreparedSplit
    test: PreparedSplit


class ListingDocument(Document):
    """Places of the images of one class of a source; the source alone knows what an entry means."""

    images: list[list[str | int]]


class _Content(Document):
    format: Annotated[int, Format(FORMAT, FORMAT)]
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    test_cut_from_train: bool
    classes: list[PreparedClass]


class PreparedManifest(_Content):
    """manifest.json of class shards."""

    checksum: str


def finish(plan: ShardPlan) -> PreparedManifest:
    """Writes and returns the manifest: classes, moments of the training pixels, and skipped images.

    Raises:
        UserError: no training image could be decoded, or a shard that was written on a node is missing here.
    """
    records = _records(plan)
    labels = range(len(plan.names))
    mean, std = _moments([records["train", label] for label in labels], plan)
    classes: list[PreparedClass] = [
        {
            "label": label,
            "name": plan.titles[label],
            "wnid": plan.wnids[label],
            "train": _entry(records["train", label]),
            "test": _entry(records["test", label]),
        }
        for label in labels
    ]
    content: _Content = {
        "format": FORMAT,
        "shape": (plan.channels, plan.data.image_size, plan.data.image_size),
        "mean": mean,
        "std": std,
        "test_cut_from_train": plan.test_cut_from_train,
        "classes": classes,
    }
    path = storage.join(plan.folder, MANIFEST)
    write_document(path, content)
    return read_document(PreparedManifest, path)


def _entry(record: PreparedRecord) -> PreparedSplit:
    return {"file": record["file"], "rows": record["rows"], "sha256": record["sha256"], "bad": record["bad"]}


def _moments(records: list[PreparedRecord], plan: ShardPlan) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by channel, of training pixels in [0, 1]."""
    sums, squares, count = np.zeros(plan.channels), np.zeros(plan.channels), 0
    for record in records:
        sums += record["sum"]
        squares += record["square"]
        count += record["rows"] * plan.data.image_size**2
    if not count:
        raise UserError("no image of the training split could be decoded; look at the source, and at data.on_bad_image")
    mean = sums / count / 255
    deviation = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, (1 / 255) ** 2))
    return mean.tolist(), deviation.tolist()


def _records(plan: ShardPlan) -> dict[tuple[str, int], PreparedRecord]:
    """The records beside all shards, by split and label."""

    def record(place: tuple[str, int]) -> PreparedRecord:
        split, label = place
        path = storage.join(plan.folder, f"{split}-{label:05d}.json")
        try:
            return read_document(PreparedRecord, path)
        except FileNotFoundError:
            raise UserError(
                f"{path}: was written on a node but does not exist here; --out or data.cache must be on storage that all nodes share"
            ) from None

    places = [(split, label) for label in range(len(plan.names)) for split in plan.splits]
    return dict(in_threads(places, record, 1 if storage.is_local(plan.folder) else REQUESTS))
