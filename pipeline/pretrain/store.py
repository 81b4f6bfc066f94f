"""Writes the folder of networks that ``pretrain`` trains; ``pipeline.pretrain.reader`` reads it. No Ray here.

Every file is complete or absent. The content of a seed's files follows from the identity, so a late write of a worker that
counts as dead does no damage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired

import torch
from safetensors.torch import save
from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.parsing import differing_keys, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.reader import (
    FORMAT_VERSION,
    ExpertsDescription,
    ExpertSettings,
    ExpertsManifest,
    SnapshotEntry,
    TrajectoryRecord,
    experts_folder,
    split_settings,
)
from pipeline.storage.documents import Document, checked, read_document, write_document
from pipeline.storage.safe_json import parse_json
from pipeline.storage.tensors import read_tensors, write_tensors

SETTINGS = "settings.json"
WEIGHT_SETTINGS = (
    "architecture",
    "epochs",
    "batch",
    "learning_rate",
    "momentum",
    "weight_decay",
    "schedule",
    "warmup",
    "augment",
)
"""Settings of ``pretrain`` that the weights depend on; the others move work, or store more or less of it."""


class Claim(Document):
    """settings.json: what the files of a folder depend on, written before them."""

    settings: ExpertSettings
    commit: NotRequired[str | None]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of an unfinished training, from which the next epoch starts."""

    seed: int
    epoch: int
    """Epochs that are done."""
    tensors: dict[str, torch.Tensor]
    """Weights and momentum, as ``m3d.training.whole_set.WholeSetTrainer.tensors`` returns them."""
    losses: list[float]
    """Mean training loss of each epoch."""
    snapshots: list[SnapshotEntry]
    precision: str = ""
    """Resolved precision; empty in a checkpoint of an older version."""


class _CheckpointState(TypedDict):
    """Content of a checkpoint besides its tensors."""

    seed: int
    epoch: int
    losses: list[float]
    snapshots: list[SnapshotEntry]
    precision: NotRequired[str]


def settings_of(config: RunConfig, dataset: PreparedDataset) -> ExpertSettings:
    """Returns everything that the weights of a seed depend on: training rule, split and class shards."""
    pretrain = to_dict(config)["pretrain"]
    return {
        "pretrain": {key: pretrain[key] for key in (*WEIGHT_SETTINGS, "precision", "snapshot_every")},
        "data": split_settings(dataset),
        "class_shards": dataset.key,
    }


def identity_of(settings: ExpertSettings) -> str:
    """Returns the checksum of the settings; files of another identity are ignored."""
    return storage.sha256(json.dumps(settings, sort_keys=True).encode())[:32]


def describe(config: RunConfig, dataset: PreparedDataset, settings: ExpertSettings) -> ExpertsDescription:
    """Returns the content of the manifest besides the trajectories, without versions and commit."""
    mean, std = dataset.moments
    return {
        "architecture": config.pretrain.architecture,
        "shape": dataset.manifest["shape"],
        "classes": [entry["name"] for entry in dataset.classes],
        "mean": list(mean),
        "std": list(std),
        "settings": settings,
    }


class ExpertStore:
    """The folder of one architecture while its networks are trained."""

    def __init__(self, folder: RunFolder, architecture: str, identity: str) -> None:
        """Args: folder of the run, name of the architecture, and ``identity_of`` the settings."""
        self.folder, self.identity = experts_folder(folder, architecture), identity

    def claim(self, settings: ExpertSettings, commit: str | None) -> None:
        """Records what the folder's files depend on and which commits write them, before the first of them is written."""
        write_document(self._settings, {"settings": settings, "commit": commit})

    @property
    def commit(self) -> str | None:
        """Commits of the claim, or None if there is none."""
        try:
            return read_document(Claim, self._settings).get("commit")
        except (FileNotFoundError, UserError):
            return None

    def disclaim(self) -> None:
        """Removes the claim, unless a trajectory is finished."""
        if self.finished(0) is None:
            storage.remove(self._settings)

    def save_snapshot(self, seed: int, epoch: int, weights: Mapping[str, torch.Tensor]) -> SnapshotEntry:
        """Stores the weights after some epochs; returns the entry for the record."""
        file = f"trajectory-{seed:05d}/epoch-{epoch:05d}.safetensors"
        metadata = json.dumps({"seed": seed, "epoch": epoch, "identity": self.identity})
        data = save(dict(weights), {"snapshot": metadata})  # one key: the order of several would vary
        storage.write_bytes(storage.join(self.folder, file), data)
        return {"epoch": epoch, "file": file, "sha256": storage.sha256(data)}

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint."""
        keys = ("seed", "epoch", "precision", "losses", "snapshots")
        state = json.dumps({key: getattr(checkpoint, key) for key in keys})
        metadata = {"state": state, "identity": self.identity}
        write_tensors(self._checkpoint, checkpoint.tensors, metadata, checked="state")

    def load_checkpoint(self, seed: int) -> Checkpoint | None:
        """Returns the checkpoint of a seed, or None if there is none of this identity or it is damaged."""
        checkpoint = self._read_checkpoint()
        if checkpoint is None or checkpoint.seed != seed or not self._are_stored(checkpoint.snapshots):
            return None
        return checkpoint

    def checkpoint_precision(self) -> str:
        """Returns the precision of the checkpoint, in which other hardware resumes, too; empty if there is no checkpoint."""
        checkpoint = self._read_checkpoint()
        return "" if checkpoint is None else checkpoint.precision

    def _read_checkpoint(self) -> Checkpoint | None:
        file = read_tensors(self._checkpoint, checked="state")
        if file is None or file.metadata.get("identity") != self.identity:
            return None
        try:
            state = checked(_CheckpointState, parse_json(file.metadata["state"]), self._checkpoint)
            return Checkpoint(tensors=file.tensors, **state)
        except (ValueError, TypeError, KeyError, UserError):
            return None  # a damaged file is ignored and its work is repeated

    def finish(self, checkpoint: Checkpoint, *, compiled: bool) -> None:
        """Writes the record of a finished trajectory."""
        record = {
            "seed": checkpoint.seed,
            "identity": self.identity,
            "snapshots": checkpoint.snapshots,
            "losses": checkpoint.losses,
            "precision": checkpoint.precision,
            "compiled": compiled,
        }
        write_document(self._record(checkpoint.seed), record)

    def finished(self, seed: int) -> TrajectoryRecord | None:
        """Returns the record of a seed, or None if it is not finished, has another identity, or lacks a snapshot."""
        try:
            record = read_document(TrajectoryRecord, self._record(seed))
        except (FileNotFoundError, UserError):
            return None  # the seed is trained again
        return record if record["identity"] == self.identity and self._are_stored(record["snapshots"]) else None

    def publish(self, trajectories: int, description: ExpertsDescription) -> ExpertsManifest:
        """Writes and returns the manifest of all finished trajectories, and removes the checkpoint.

        Args:
            trajectories: number of trajectories that must be finished at least, counted from seed 0.
            description: content of the manifest besides the trajectories.

        Raises:
            UserError: a trajectory is missing.
        """
        records: list[TrajectoryRecord] = []
        while (record := self.finished(len(records))) is not None:
            records.append(record)
        if len(records) < trajectories:
            raise UserError(f"{self.folder}: lacks trajectory {len(records)}; run the same command again")
        manifest = {"format_version": FORMAT_VERSION, "identity": self.identity, "trajectories": records, **description}
        path = storage.join(self.folder, MANIFEST)
        write_document(path, manifest)
        storage.remove(self._checkpoint)
        return read_document(ExpertsManifest, path)

    def refuse_others(self, manifest: ExpertsManifest | None, settings: ExpertSettings) -> None:
        """Raises UserError if the folder's networks, finished or not, have other settings, and names their keys.

        Args:
            manifest: manifest of the finished networks, or None if there is none.
            settings: settings of this call.
        """
        if manifest is not None:
            stored = manifest.get("settings", ExpertSettings())
        elif storage.exists(self._settings):
            stored = read_document(Claim, self._settings)["settings"]
        else:
            return
        differing = differing_keys(stored, settings)
        if differing:
            raise UserError(
                f"{self.folder}: holds networks of other settings, differing in {listed(differing)}; "
                "choose another --out, delete that folder, or give the same settings"
            )

    def _are_stored(self, snapshots: list[SnapshotEntry]) -> bool:
        return all(storage.exists(storage.join(self.folder, entry["file"])) for entry in snapshots)

    @property
    def _settings(self) -> str:
        return storage.join(self.folder, SETTINGS)

    @property
    def _checkpoint(self) -> str:
        return storage.join(self.folder, "checkpoint.safetensors")

    def _record(self, seed: int) -> str:
        return storage.join(self.folder, f"trajectory-{seed:05d}.json")
