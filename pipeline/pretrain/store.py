"""The folder of networks that ``pretrain`` trains, as it is written; ``pipeline.pretrain.reader`` reads it. No Ray here.

Every file is whole or absent, and what a seed's file holds follows from the identity, so a late write of a worker
that counts as dead does no damage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from safetensors.torch import save

from pipeline import storage
from pipeline.config.parsing import differing_keys, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.pretrain.reader import ExpertsManifest, SnapshotEntry, TrajectoryRecord, folder_of
from pipeline.storage.documents import read_document, write_document
from pipeline.storage.tensors import read_tensors, write_tensors

SETTINGS = "settings.json"
FORMAT_VERSION = 1
RULE = ("architecture", "epochs", "batch", "learning_rate", "momentum", "weight_decay", "schedule", "warmup", "augment")
"""Settings of ``pretrain`` that the weights follow from; the others only move work, or store more or less of it."""
DAMAGED = (safetensors.SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training under way: what the next epoch begins with."""

    seed: int
    epoch: int
    """Epochs that are done."""
    tensors: dict[str, torch.Tensor]
    """As ``m3d.training.whole_set.WholeSetTrainer.tensors`` gives them."""
    losses: list[float]
    """Mean training loss of each epoch."""
    snapshots: list[SnapshotEntry]
    precision: str = ""
    """Resolved; empty in a checkpoint of an older version."""


def settings_of(config: RunConfig, cache: PreparedDataset) -> dict[str, Any]:
    """All that the weights of a seed follow from: rule, split and class shards."""
    pretrain = to_dict(config)["pretrain"]
    return {
        "pretrain": {key: pretrain[key] for key in (*RULE, "precision", "snapshot_every")},
        "data": {key: getattr(cache.data, key) for key in ("validation_fraction", "split_seed")},
        "class_shards": cache.key,
    }


def identity_of(settings: Mapping[str, Any]) -> str:
    """Checksum of ``settings_of``; files of another one do not count."""
    return storage.sha256(json.dumps(settings, sort_keys=True).encode())[:32]


class ExpertStore:
    """The folder of one architecture while its networks are trained."""

    def __init__(self, out: str, architecture: str, identity: str) -> None:
        self.folder, self.identity = folder_of(out, architecture), identity

    def claim(self, settings: Mapping[str, Any], commit: str | None) -> None:
        """Says what the folder's files follow from and which commits make them, before the first of them is written."""
        write_document(self._settings, {"settings": settings, "commit": commit})

    @property
    def commit(self) -> str | None:
        """The commits of the claim, or None where there is none."""
        try:
            return read_document(dict[str, Any], self._settings).get("commit")
        except (FileNotFoundError, UserError):
            return None

    def disclaim(self) -> None:
        """Takes that back where no trajectory is finished."""
        if self.finished(0) is None:
            storage.remove(self._settings)

    def save_snapshot(self, seed: int, epoch: int, weights: Mapping[str, torch.Tensor]) -> SnapshotEntry:
        """Stores the weights after some epochs."""
        file = f"trajectory-{seed:05d}/epoch-{epoch:05d}.safetensors"
        about = json.dumps({"seed": seed, "epoch": epoch, "identity": self.identity})
        data = save(dict(weights), {"snapshot": about})  # one key: several would be written in any order
        storage.write_bytes(storage.join(self.folder, file), data)
        return {"epoch": epoch, "file": file, "sha256": storage.sha256(data)}

    def save_checkpoint(self, held: Checkpoint) -> None:
        """Replaces the checkpoint."""
        text = json.dumps({key: getattr(held, key) for key in ("seed", "epoch", "precision", "losses", "snapshots")})
        write_tensors(self._checkpoint, held.tensors, {"state": text, "identity": self.identity}, checked="state")

    def load_checkpoint(self, seed: int) -> Checkpoint | None:
        """The checkpoint of a seed, or None where there is none of this identity or it is damaged."""
        held = self._held()
        return held if held is not None and held.seed == seed and self._stored(held.snapshots) else None

    def precision_under_way(self) -> str:
        """That of the checkpoint: what an earlier call began goes on in it, on other hardware as well. Empty where there is none."""
        held = self._held()
        return "" if held is None else held.precision

    def _held(self) -> Checkpoint | None:
        file = read_tensors(self._checkpoint, checked="state")
        if file is None or file.metadata.get("identity") != self.identity:
            return None
        try:
            return Checkpoint(tensors=file.tensors, **json.loads(file.metadata["state"]))
        except (ValueError, TypeError):
            return None  # a damaged checkpoint costs its work, never the training

    def finish(self, held: Checkpoint, *, compiled: bool) -> None:
        """Writes the record of a finished trajectory."""
        record = {
            "seed": held.seed,
            "identity": self.identity,
            "snapshots": held.snapshots,
            "losses": held.losses,
            "precision": held.precision,
            "compiled": compiled,
        }
        write_document(self._record(held.seed), record)

    def finished(self, seed: int) -> TrajectoryRecord | None:
        """The record of a seed, or None where it is not finished, of another identity, or lacks a snapshot."""
        path = self._record(seed)
        try:
            record = read_document(TrajectoryRecord, path)
        except (FileNotFoundError, UserError):
            return None  # it is trained again
        return record if record["identity"] == self.identity and self._stored(record["snapshots"]) else None

    def publish(self, trajectories: int, about: Mapping[str, Any]) -> ExpertsManifest:
        """Writes the manifest of all finished trajectories from seed 0 on, ``trajectories`` at least, and returns it."""
        records: list[TrajectoryRecord] = []
        while (record := self.finished(len(records))) is not None:
            records.append(record)
        if len(records) < trajectories:
            raise UserError(f"{self.folder}: lacks trajectory {len(records)}; run the same command again")
        manifest = {"format_version": FORMAT_VERSION, "identity": self.identity, "trajectories": records, **about}
        path = storage.join(self.folder, MANIFEST)
        write_document(path, manifest)
        storage.remove(self._checkpoint)
        return read_document(ExpertsManifest, path)

    def _stored(self, snapshots: list[SnapshotEntry]) -> bool:
        return all(storage.exists(storage.join(self.folder, entry["file"])) for entry in snapshots)

    @property
    def _settings(self) -> str:
        return storage.join(self.folder, SETTINGS)

    @property
    def _checkpoint(self) -> str:
        return storage.join(self.folder, "checkpoint.safetensors")

    def _record(self, seed: int) -> str:
        return storage.join(self.folder, f"trajectory-{seed:05d}.json")


def refuse_others(out: str, manifest: ExpertsManifest | None, settings: Mapping[str, Any], architecture: str) -> None:
    """Raises UserError where the folder's networks, finished or not, are of other settings, naming those that differ."""
    path = storage.join(folder_of(out, architecture), SETTINGS)
    if manifest is not None:
        held = manifest.get("settings", {})
    elif storage.exists(path):
        held = read_document(dict[str, Any], path)["settings"]
    else:
        return
    differing = differing_keys(held, settings)
    if differing:
        raise UserError(
            f"{folder_of(out, architecture)}: holds networks of other settings, differing in {listed(differing)}; "
            "choose another --out, delete that folder, or give the same settings"
        )


def about(config: RunConfig, cache: PreparedDataset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says besides the trajectories."""
    mean, std = cache.moments
    return {
        "architecture": config.pretrain.architecture,
        "shape": cache.manifest["shape"],
        "classes": [entry["name"] for entry in cache.classes],
        "mean": list(mean),
        "std": list(std),
        "settings": settings,
    }
