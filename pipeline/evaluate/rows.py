"""Rows of evaluation.json: what identifies a row, which rows may be compared, and which request a row answers. No Ray here."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NotRequired, Self

from typing_extensions import TypedDict

from m3d import training_of
from m3d.training.protocols import imagenet_epochs
from m3d.training.settings import Train
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.formats.confusion_matrix import MatrixFile

WHOLE = "whole"
"""Name of the set of all training images. ``pretrain`` writes its row, under a schedule of its own."""
MUST_AGREE = ("training", "epochs", "flip", "condensed_set", "class_shards")
"""Keys in which two rows must agree to be compared, if both have them."""

Settings = dict[str, Any]
"""Settings as plain values, the way JSON stores them."""


class Summary(TypedDict):
    """Accuracies of several networks in percent, with their mean, deviation and interval."""

    mean: float
    std: float
    interval95: list[float] | None
    accuracies: list[float]


class BestEpoch(Summary):
    """Best accuracies on the test images, at every ``every``-th epoch."""

    every: int
    curves: NotRequired[list[list[float]]]
    """Accuracies at those epochs, of every network in the order of the seeds."""


class Origins(TypedDict, total=False):
    """Checksums of the data that a row was measured on. Rows of older versions have the first one only."""

    condensed_set: str
    class_shards: str
    teacher: str
    """Checksum of the teacher's weights, for soft labels."""


class EvaluationRow(TypedDict):
    """A row of evaluation.json. Keys of other versions are kept; ``with_defaults`` adds those that older ones lack."""

    set: str
    architecture: str
    protocol: str
    on: str
    augmentation: str
    labels: str
    mean: float
    std: float
    interval95: NotRequired[list[float] | None]
    accuracies: list[float]
    seeds: list[int]
    epochs: int
    epoch: str
    flip: bool
    training: NotRequired[Settings]
    images_per_class: float | None
    images: NotRequired[int | None]
    precision: str
    compiled: bool
    device: NotRequired[str]
    commit: NotRequired[str | None]
    condensed_set: NotRequired[str]
    class_shards: NotRequired[str]
    teacher: NotRequired[str]
    per_class: NotRequired[list[float]]
    confusion: NotRequired[list[list[int]]]
    """Matrix of up to ``LISTED_CLASSES`` classes; larger ones are in a file."""
    confusion_file: NotRequired[MatrixFile]
    best_epoch_compatibility: NotRequired[BestEpoch]
    schedule: NotRequired[str]
    """Name of the schedule of the full training set's networks."""
    knobs: NotRequired[Settings]
    """Settings of that schedule."""
    experts: NotRequired[str]
    """Checksum of the manifest of those networks."""


class ComparisonRow(EvaluationRow):
    """A row of comparison.json."""

    difference: float | None
    """Mean difference to the first set over the seeds, in percent; None in the row of the first set."""
    difference_interval95: tuple[float, float] | None
    note: str


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """What identifies a row: a new row replaces the stored one that has the same key."""

    set: str
    architecture: str
    protocol: str
    on: str
    augmentation: str
    labels: str

    @classmethod
    def of(cls, row: EvaluationRow) -> Self:
        """The key of a row, complete or of an older version."""
        row = with_defaults(row)
        return cls(
            set=row.get("set", ""),
            architecture=row.get("architecture", ""),
            protocol=row.get("protocol", ""),
            on=row["on"],
            augmentation=row["augmentation"],
            labels=row["labels"],
        )


@dataclass(frozen=True, kw_only=True)
class RowRequest:
    """A row that a configuration asks for."""

    key: RowKey
    seeds: range
    training: Train
    flip: bool
    best_epoch: int
    """Epochs between two measurements of the test accuracy; 0 if it is measured after the last epoch only."""
    origins: Origins

    def answer(self, rows: Iterable[EvaluationRow]) -> EvaluationRow | None:
        """The first of the rows that answers the request, or None."""
        return next((row for row in rows if self.is_answered_by(row)), None)

    def is_answered_by(self, row: EvaluationRow) -> bool:
        """Whether a row answers the request.

        It must have the same key, training and origins, and at least the requested seeds. The row of the full training
        set only needs the same architecture and split.
        """
        seeds: object = row.get("seeds")
        if not isinstance(seeds, list):
            return False
        if self.key.set == WHOLE:
            return is_whole_set_row(row, self.key)
        return (
            RowKey.of(row) == self.key
            and set(self.seeds) <= set(seeds)
            and self._has_same_training(row)
            and self._has_same_origins(row)
        )

    def score_key(self, origins: Mapping[str, object]) -> str:
        """Checksum of everything that determines the scores of the row's networks, except the seed.

        Stored scores and checkpoints of an incomplete row are named by it.

        Args:
            origins: what the networks are trained and tested on, as plain values. Replaces entries of the same name.
        """
        content = {
            "set": self.key.set,
            "architecture": self.key.architecture,
            "training": training_settings(self.training),
            "on": self.key.on,
            "best_epoch": self.best_epoch,
            **origins,
        }
        return storage.sha256(json.dumps(content, sort_keys=True).encode())[:32]

    def _has_same_training(self, row: EvaluationRow) -> bool:
        if self.best_epoch and row.get("best_epoch_compatibility", {}).get("every") != self.best_epoch:
            return False
        if "training" not in row:  # rows of older versions name epochs and flip, which were the only choices
            return row.get("epochs") == self.training.epochs and row.get("flip") == self.flip
        return row["training"] == training_settings(self.training)

    def _has_same_origins(self, row: EvaluationRow) -> bool:
        return row.get("condensed_set") == self.origins.get("condensed_set") and all(
            row.get(name, checksum) == checksum for name, checksum in self.origins.items()
        )


def with_defaults(row: EvaluationRow) -> EvaluationRow:
    """The row with the keys that older versions did not write."""
    return {"on": "test", "augmentation": "protocol", "labels": "hard", **row}


def tracked_results(row: EvaluationRow) -> dict[str, float]:
    """The numbers of a row for a tracker. Their names have what identifies the row; what is the usual is left out."""
    key = RowKey.of(row)
    usual = ("idc", "test", "protocol", "hard")
    other = [
        part
        for part, most in zip((key.protocol, key.on, key.augmentation, key.labels), usual, strict=True)
        if part != most
    ]
    name = "/".join(("accuracy", key.set, key.architecture, *other))
    return {f"{name}/mean": row["mean"], **({f"{name}/std": row["std"]} if len(row["accuracies"]) > 1 else {})}


def is_whole_set_row(row: EvaluationRow, like: RowKey) -> bool:
    """Whether a row has the accuracy of the full training set, for the architecture and the split of another row."""
    key = RowKey.of(row)
    return (key.set, key.architecture, key.on) == (WHOLE, like.architecture, like.on)


def is_comparable(row: EvaluationRow, other: EvaluationRow) -> bool:
    """Whether two rows have the same training, condensed set and images, as far as both record them."""
    pairs = [(row.get(name), other.get(name)) for name in MUST_AGREE]
    return all(mine == theirs for mine, theirs in pairs if mine is not None and theirs is not None)


def requested_rows(config: RunConfig, origins: Origins, classes: int) -> list[RowRequest]:
    """The rows that a configuration asks for: every architecture with every set, in this order.

    Args:
        config: ``evaluate`` has the sets, architectures, seeds and the training.
        origins: checksums of the condensed set and, as far as they are known, of the class shards and the teacher.
        classes: number of classes of the data.
    """
    return [
        request_of(config, name, architecture, classes=classes, origins=origins)
        for architecture in dict.fromkeys(config.evaluate.architectures)
        for name in set_names(config)
    ]


def request_of(
    config: RunConfig, name: str, architecture: str, *, classes: int, origins: Origins | None = None
) -> RowRequest:
    """The request for the row of one set and one architecture. Arguments as for ``requested_rows``."""
    evaluate = config.evaluate
    key = RowKey(
        set=name,
        architecture=architecture,
        protocol=evaluate.protocol,
        on=evaluate.on,
        augmentation=evaluate.augment,
        labels=evaluate.labels,
    )
    return RowRequest(
        key=key,
        seeds=range(evaluate.seeds),
        training=training_for(config, classes),
        flip=evaluate.flip,
        best_epoch=evaluate.best_epoch,
        origins=origins or {},
    )


def set_names(config: RunConfig) -> list[str]:
    """Names of the sets that an evaluation compares: the requested ones, without mosaics if the run has none."""
    has_mosaic = config.condense.factor > 1 or config.condense.start != "noise"
    return [name for name in dict.fromkeys(config.evaluate.sets) if name != "mosaic" or has_mosaic]


def training_for(config: RunConfig, classes: int) -> Train:
    """The training of the configured protocol; the ImageNet protocols derive the epochs from the views of a class."""
    training = training_of(config.evaluate)
    if config.evaluate.epochs is None and config.evaluate.protocol.startswith("imagenet"):
        views = config.condense.images_per_class * config.condense.factor**2
        return replace(training, epochs=imagenet_epochs(views, classes))
    return training


def training_settings(training: Train) -> Settings:
    """Every setting of a training, as plain values."""
    return json.loads(json.dumps(asdict(training)))
