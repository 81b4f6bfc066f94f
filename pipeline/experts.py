"""Networks trained on the whole training set, as they are stored: trajectories of snapshots. No Ray here.

    OUT/experts/ARCHITECTURE/trajectory-00000/epoch-00005.safetensors   weights after so many epochs
    OUT/experts/ARCHITECTURE/trajectory-00000.json                      record of a finished trajectory
    OUT/experts/ARCHITECTURE/checkpoint.safetensors                     weights and momentum of the one under way
    OUT/experts/ARCHITECTURE/settings.json                              what all of them follow from, written first
    OUT/experts/ARCHITECTURE/manifest.json                              the trajectories with their checksums, last

Every file is whole or absent, and what a seed's file holds follows from the identity, so a late write of a worker
that counts as dead does no damage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from pydantic import ConfigDict
from safetensors.torch import load, save
from typing_extensions import TypedDict

from m3d.encoders import Network, build
from m3d.seeding import generator
from pipeline import storage
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig, differing_keys, to_dict
from pipeline.documents import SEAL, parsed, sealed
from pipeline.errors import UserError, listed
from pipeline.shard_schema import MANIFEST

SETTINGS = "settings.json"
FORMAT_VERSION = 1
FOLDER = "experts"
RULE = ("architecture", "epochs", "batch", "learning_rate", "momentum", "weight_decay", "schedule", "warmup", "augment")
"""Settings of ``pretrain`` that the weights follow from; the others only move work, or store more or less of it."""
DAMAGED = (safetensors.SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError)

_STRICT = ConfigDict(extra="allow", strict=False, allow_inf_nan=False)


class SnapshotEntry(TypedDict):
    """A stored snapshot; ``file`` is below the folder of the architecture."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    epoch: int
    file: str
    sha256: str


class TrajectoryRecord(TypedDict):
    """trajectory-00000.json: one finished training."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    seed: int
    identity: str
    snapshots: list[SnapshotEntry]
    losses: list[float]
    precision: str
    compiled: bool
    checksum: str


class ExpertsManifest(TypedDict):
    """experts/ARCHITECTURE/manifest.json."""

    __pydantic_config__ = _STRICT  # pyright: ignore[reportGeneralTypeIssues]
    format_version: int
    identity: str
    architecture: str
    shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    trajectories: list[TrajectoryRecord]
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training under way: what the next epoch begins with."""

    seed: int
    epoch: int
    """Epochs that are done."""
    tensors: dict[str, torch.Tensor]
    """As ``m3d.whole_set.WholeSetTrainer.tensors`` gives them."""
    losses: list[float]
    """Mean training loss of each epoch."""
    snapshots: list[SnapshotEntry]


def folder_of(out: str, architecture: str) -> str:
    """Where the networks of an architecture are stored, below the run's folder."""
    return storage.join(out, FOLDER, architecture)


def settings_of(config: RunConfig, cache: ClassCache) -> dict[str, Any]:
    """All that the weights of a seed follow from: rule, split and class shards."""
    pretrain = to_dict(config)["pretrain"]
    return {
        "pretrain": {key: pretrain[key] for key in (*RULE, "precision", "snapshot_every")},
        "data": {key: getattr(cache.data, key) for key in ("validation_fraction", "split_seed")},
        "class_shards": cache.folder.rsplit("/", 1)[-1],
    }


def identity_of(settings: Mapping[str, Any]) -> str:
    """Checksum of ``settings_of``; files of another one do not count."""
    return storage.sha256(json.dumps(settings, sort_keys=True).encode())[:32]


class Experts:
    """The folder of one architecture while its networks are trained."""

    def __init__(self, out: str, architecture: str, identity: str) -> None:
        self.folder, self.identity = folder_of(out, architecture), identity

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Says what the folder's files follow from, before the first of them is written."""
        storage.write_json(storage.join(self.folder, SETTINGS), sealed({"settings": settings}))

    def disclaim(self) -> None:
        """Takes that back where no trajectory is finished."""
        if self.finished(0) is None:
            storage.remove(storage.join(self.folder, SETTINGS))

    def save_snapshot(self, seed: int, epoch: int, weights: Mapping[str, torch.Tensor]) -> SnapshotEntry:
        """Stores the weights after some epochs."""
        file = f"trajectory-{seed:05d}/epoch-{epoch:05d}.safetensors"
        about = json.dumps({"seed": seed, "epoch": epoch, "identity": self.identity})
        data = save(dict(weights), {"snapshot": about})  # one key: several would be written in any order
        storage.write_bytes(storage.join(self.folder, file), data)
        return {"epoch": epoch, "file": file, "sha256": storage.sha256(data)}

    def save_checkpoint(self, held: Checkpoint) -> None:
        """Replaces the checkpoint."""
        said = {"seed": held.seed, "epoch": held.epoch, "losses": held.losses, "snapshots": held.snapshots}
        text = json.dumps(said)
        metadata = {"state": text, "identity": self.identity, "sha256": _checksum(held.tensors, text)}
        storage.write_bytes(self._checkpoint, save(held.tensors, metadata))

    def load_checkpoint(self, seed: int) -> Checkpoint | None:
        """The checkpoint of a seed, or None where there is none of this identity or it is damaged."""
        try:
            data = storage.read_bytes(self._checkpoint)
            metadata, tensors = _metadata(data), load(data)
            if metadata["identity"] != self.identity or metadata["sha256"] != _checksum(tensors, metadata["state"]):
                return None
            held = Checkpoint(tensors=tensors, **json.loads(metadata["state"]))
        except (FileNotFoundError, *DAMAGED):
            return None  # a damaged checkpoint costs its work, never the training
        return held if held.seed == seed and self._stored(held.snapshots) else None

    def finish(self, held: Checkpoint, precision: str, *, compiled: bool) -> None:
        """Writes the record of a finished trajectory."""
        record = {
            "seed": held.seed,
            "identity": self.identity,
            "snapshots": held.snapshots,
            "losses": held.losses,
            "precision": precision,
            "compiled": compiled,
        }
        storage.write_json(self._record(held.seed), sealed(record))

    def finished(self, seed: int) -> TrajectoryRecord | None:
        """The record of a seed, or None where it is not finished, of another identity, or lacks a snapshot."""
        path = self._record(seed)
        try:
            record = parsed(TrajectoryRecord, storage.read_json(path), path)
        except (FileNotFoundError, UserError):
            return None  # it is trained again
        return record if record["identity"] == self.identity and self._stored(record["snapshots"]) else None

    def commit(self, trajectories: int, about: Mapping[str, Any]) -> ExpertsManifest:
        """Writes the manifest of all finished trajectories from seed 0 on, ``trajectories`` at least, and returns it."""
        records: list[TrajectoryRecord] = []
        while (record := self.finished(len(records))) is not None:
            records.append(record)
        if len(records) < trajectories:
            raise UserError(f"{self.folder}: lacks trajectory {len(records)}; run the same command again")
        manifest = {"format_version": FORMAT_VERSION, "identity": self.identity, "trajectories": records, **about}
        path = storage.join(self.folder, MANIFEST)
        storage.write_json(path, sealed(manifest))
        storage.remove(self._checkpoint)
        return parsed(ExpertsManifest, storage.read_json(path), path)

    def _stored(self, snapshots: list[SnapshotEntry]) -> bool:
        return all(storage.exists(storage.join(self.folder, entry["file"])) for entry in snapshots)

    @property
    def _checkpoint(self) -> str:
        return storage.join(self.folder, "checkpoint.safetensors")

    def _record(self, seed: int) -> str:
        return storage.join(self.folder, f"trajectory-{seed:05d}.json")


def read_experts(out: str, architecture: str) -> ExpertsManifest | None:
    """The manifest of an architecture's networks, or None where none are finished. Raises UserError if damaged."""
    path = storage.join(folder_of(out, architecture), MANIFEST)
    try:
        return parsed(ExpertsManifest, storage.read_json(path), path)
    except FileNotFoundError:
        return None


def load_snapshot(out: str, architecture: str, entry: SnapshotEntry) -> dict[str, torch.Tensor]:
    """The weights of a snapshot that the manifest names, its checksum compared.

    Raises:
        UserError: it is gone or damaged.
    """
    folder = folder_of(out, architecture)
    path = storage.join(folder, entry["file"])
    advice = f"delete {folder} and run `python -m pipeline pretrain` again"
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: is gone, though the manifest names it; {advice}") from None
    if storage.sha256(data) != entry["sha256"]:
        raise UserError(f"{path}: its checksum is not the manifest's, the file is damaged; {advice}")
    return load(data)


def trained_network(out: str, manifest: ExpertsManifest, seed: int = 0, epoch: int | None = None) -> Network:
    """The network of a seed after some epochs (the last ones if None), in evaluation mode, on the CPU.

    Raises:
        UserError: no such seed or snapshot, or its file is damaged.
    """
    held = {record["seed"]: record for record in manifest["trajectories"]}
    if seed not in held:
        raise UserError(f"{out}: holds no trajectory {seed}; it has {listed(map(str, held))}")
    entries = {entry["epoch"]: entry for entry in held[seed]["snapshots"]}
    wanted = max(entries) if epoch is None else epoch
    if wanted not in entries:
        raise UserError(f"{out}: has no snapshot after {wanted} epochs; it has {listed(map(str, entries))}")
    channels, size, _ = manifest["shape"]
    network = build(
        manifest["architecture"],
        channels=channels,
        image_size=size,
        classes=len(manifest["classes"]),
        generator=generator(0, "pretrain/weights"),
    )
    network.load_state_dict(load_snapshot(out, manifest["architecture"], entries[wanted]))
    return network.eval()


def feature_network(folder: str, architecture: str, cache: ClassCache) -> Network | None:
    """A network trained on these very images, for features; the last snapshot of seed 0, in evaluation mode.

    Args:
        folder: of the run, below which ``pretrain`` stores its networks.
        architecture: its name.
        cache: the class shards and the validation split that it must have been trained on.

    Returns:
        The network on the CPU, or None where none is stored that was trained on these images.

    Raises:
        UserError: the manifest or the snapshot is damaged.
    """
    manifest = read_experts(folder, architecture)
    if manifest is None or not same_images(manifest, cache):
        return None
    return trained_network(folder, manifest)


def same_images(manifest: ExpertsManifest, cache: ClassCache) -> bool:
    """Whether the networks were trained on the images that the cache's split leaves for training."""
    settings: dict[str, Any] = manifest.get("settings", {})
    data = {key: getattr(cache.data, key) for key in ("validation_fraction", "split_seed")}
    if not data["validation_fraction"]:  # nothing is held out, whatever the seed
        data.pop("split_seed")
    held = settings.get("data", {})
    return settings.get("class_shards") == cache.folder.rsplit("/", 1)[-1] and all(
        held.get(key) == value for key, value in data.items()
    )


def refuse_others(out: str, manifest: ExpertsManifest | None, settings: Mapping[str, Any], architecture: str) -> None:
    """Raises UserError where the folder's networks, finished or not, are of other settings, naming those that differ."""
    path = storage.join(folder_of(out, architecture), SETTINGS)
    if manifest is not None:
        held = manifest.get("settings", {})
    elif storage.exists(path):
        held = parsed(dict[str, Any], storage.read_json(path), path)["settings"]
    else:
        return
    differing = differing_keys(held, settings)
    if differing:
        raise UserError(
            f"{folder_of(out, architecture)}: holds networks of other settings, differing in {listed(differing)}; "
            "choose another --out, delete that folder, or give the same settings"
        )


def about(config: RunConfig, cache: ClassCache, settings: Mapping[str, Any]) -> dict[str, Any]:
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


def teacher_checksum(manifest: ExpertsManifest) -> str:
    """The checksum of the network that labels are taken from: the last epoch of seed 0. More trajectories leave it as it is."""
    first = next(record for record in manifest["trajectories"] if record["seed"] == 0)
    return max(first["snapshots"], key=lambda entry: entry["epoch"])["sha256"]


def seal_of(manifest: ExpertsManifest) -> str:
    """The manifest's checksum: what a row of an evaluation belongs to."""
    return manifest[SEAL]


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"]


def _checksum(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    content = [tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)]
    return storage.sha256(b"".join([text.encode(), *content]))
