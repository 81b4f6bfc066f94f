"""Networks trained on the whole training set, as they are stored: trajectories of snapshots. No Ray here.

    OUT/experts/ARCHITECTURE/trajectory-00000/epoch-00005.safetensors   weights after so many epochs
    OUT/experts/ARCHITECTURE/trajectory-00000.json                      record of a finished trajectory
    OUT/experts/ARCHITECTURE/checkpoint.safetensors                     weights and momentum of the one under way
    OUT/experts/ARCHITECTURE/settings.json                              what all of them follow from, written first
    OUT/experts/ARCHITECTURE/manifest.json                              the trajectories with their checksums, last

``pipeline.pretrain.store`` writes them.
"""

from typing import Any

import torch
from safetensors.torch import load
from typing_extensions import TypedDict

from m3d.encoders import Network, build
from m3d.seeding import generator
from pipeline import storage
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.storage.documents import EXTENSIBLE, SEAL, read_document

FOLDER = "experts"


class SnapshotEntry(TypedDict):
    """A stored snapshot; ``file`` is below the folder of the architecture."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    epoch: int
    file: str
    sha256: str


class TrajectoryRecord(TypedDict):
    """trajectory-00000.json: one finished training."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    seed: int
    identity: str
    snapshots: list[SnapshotEntry]
    losses: list[float]
    precision: str
    compiled: bool
    checksum: str


class ExpertsManifest(TypedDict):
    """experts/ARCHITECTURE/manifest.json."""

    __pydantic_config__ = EXTENSIBLE  # pyright: ignore[reportGeneralTypeIssues]
    format_version: int
    identity: str
    architecture: str
    shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    trajectories: list[TrajectoryRecord]
    checksum: str


def folder_of(out: str, architecture: str) -> str:
    """Where the networks of an architecture are stored, below the run's folder."""
    return storage.join(out, FOLDER, architecture)


def read_experts(out: str, architecture: str) -> ExpertsManifest | None:
    """The manifest of an architecture's networks, or None where none are finished. Raises UserError if damaged."""
    path = storage.join(folder_of(out, architecture), MANIFEST)
    try:
        return read_document(ExpertsManifest, path)
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


def feature_network(folder: str, architecture: str, cache: PreparedDataset) -> Network | None:
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


def same_images(manifest: ExpertsManifest, cache: PreparedDataset) -> bool:
    """Whether the networks were trained on the images that the cache's split leaves for training."""
    settings: dict[str, Any] = manifest.get("settings", {})
    data = {key: getattr(cache.data, key) for key in ("validation_fraction", "split_seed")}
    if not data["validation_fraction"]:  # nothing is held out, whatever the seed
        data.pop("split_seed")
    held = settings.get("data", {})
    return settings.get("class_shards") == cache.folder.rsplit("/", 1)[-1] and all(
        held.get(key) == value for key, value in data.items()
    )


def teacher_checksum(manifest: ExpertsManifest) -> str:
    """The checksum of the network that labels are taken from: the last epoch of seed 0. More trajectories leave it as it is."""
    first = next(record for record in manifest["trajectories"] if record["seed"] == 0)
    return max(first["snapshots"], key=lambda entry: entry["epoch"])["sha256"]


def seal_of(manifest: ExpertsManifest) -> str:
    """The manifest's checksum: what a row of an evaluation belongs to."""
    return manifest[SEAL]
