"""Reads networks that were trained on the full training set: trajectories of snapshots. No Ray here.

    OUT/experts/ARCHITECTURE/trajectory-00000/epoch-00005.safetensors   weights after that many epochs
    OUT/experts/ARCHITECTURE/trajectory-00000.json                      record of a finished trajectory
    OUT/experts/ARCHITECTURE/checkpoint.safetensors                     weights and momentum of the current trajectory
    OUT/experts/ARCHITECTURE/settings.json                              settings of all trajectories, written first
    OUT/experts/ARCHITECTURE/manifest.json                              trajectories with their checksums, written last

``pipeline.pretrain.store`` writes them.
"""

from typing import Annotated, Any, NotRequired

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from m3d.encoders import Network, build
from m3d.seeding import generator
from pipeline import storage
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, first_line, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import SEAL, Document, read_document
from pipeline.storage.fields import FileName, Format, PathBelow, Sha256

FORMAT_VERSION = 1
"""Format of the manifest of an architecture's networks."""


class SplitSettings(Document, total=False):
    """Settings that decide which images are held out for validation."""

    validation_fraction: float
    split_seed: int


class ExpertSettings(Document, total=False):
    """Everything that the weights of a seed depend on; records of older versions may lack a key."""

    pretrain: dict[str, Any]
    """Training rule and precision."""
    data: SplitSettings
    class_shards: str
    """Key of the class shards."""


class SnapshotEntry(Document):
    """A stored snapshot."""

    epoch: int
    file: PathBelow
    """Path below the folder of the architecture."""
    sha256: Sha256


class TrajectoryRecord(Document):
    """trajectory-00000.json: one finished training."""

    seed: int
    identity: str
    snapshots: list[SnapshotEntry]
    losses: list[float]
    precision: str
    compiled: bool
    checksum: str


class ExpertsDescription(Document):
    """Content of experts/ARCHITECTURE/manifest.json besides the trajectories."""

    architecture: FileName
    shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    settings: NotRequired[ExpertSettings]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]


class ExpertsManifest(ExpertsDescription):
    """experts/ARCHITECTURE/manifest.json."""

    format_version: Annotated[int, Format(FORMAT_VERSION, FORMAT_VERSION)]
    identity: str
    trajectories: list[TrajectoryRecord]
    checksum: str


def experts_folder(folder: RunFolder, architecture: str) -> str:
    """Returns the folder of an architecture's networks."""
    return storage.join(folder.experts, architecture)


def read_experts(folder: RunFolder, architecture: str) -> ExpertsManifest | None:
    """Returns the manifest of an architecture's networks, or None if none are finished. Raises UserError if it is damaged."""
    try:
        path = storage.join(experts_folder(folder, architecture), MANIFEST)
        manifest = read_document(ExpertsManifest, path)
    except FileNotFoundError:
        return None
    channels, height, width = manifest["shape"]
    plausible = {
        "architecture": manifest["architecture"] == architecture,
        "shape": channels in (1, 3) and 4 <= height == width <= 4096,
        "classes": len(manifest["classes"]) > 0,
        "trajectories": all(record["snapshots"] for record in manifest["trajectories"]),
    }
    wrong = [key for key, holds in plausible.items() if not holds]
    if wrong:
        raise UserError(f"{path}: is damaged: {listed(wrong)} cannot be right; run `python -m pipeline pretrain` again")
    return manifest


def load_snapshot(folder: RunFolder, architecture: str, entry: SnapshotEntry) -> dict[str, torch.Tensor]:
    """Returns the weights of a snapshot that the manifest names.

    Raises:
        UserError: the file is gone or its checksum is wrong.
    """
    experts = experts_folder(folder, architecture)
    path = storage.join(experts, entry["file"])
    advice = f"delete {experts} and run `python -m pipeline pretrain` again"
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: is gone, though the manifest names it; {advice}") from None
    if storage.sha256(data) != entry["sha256"]:
        raise UserError(f"{path}: its checksum is not the manifest's, the file is damaged; {advice}")
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: is not a file of tensors ({first_line(error)}); {advice}") from None


def trained_network(folder: RunFolder, manifest: ExpertsManifest, seed: int = 0, epoch: int | None = None) -> Network:
    """Returns the network of a seed after some epochs, in evaluation mode, on the CPU.

    Args:
        folder: folder of the run.
        manifest: manifest of the architecture's networks.
        seed: seed of the trajectory.
        epoch: number of epochs. Defaults to the last stored one.

    Raises:
        UserError: there is no such trajectory or snapshot, or its file is damaged.
    """
    records = {record["seed"]: record for record in manifest["trajectories"]}
    if seed not in records:
        raise UserError(f"{folder}: holds no trajectory {seed}; it has {listed(map(str, records))}")
    entries = {entry["epoch"]: entry for entry in records[seed]["snapshots"]}
    wanted = max(entries) if epoch is None else epoch
    if wanted not in entries:
        raise UserError(f"{folder}: has no snapshot after {wanted} epochs; it has {listed(map(str, entries))}")
    channels, size, _ = manifest["shape"]
    network = build(
        manifest["architecture"],
        channels=channels,
        image_size=size,
        classes=len(manifest["classes"]),
        generator=generator(0, "pretrain/weights"),
    )
    try:
        network.load_state_dict(load_snapshot(folder, manifest["architecture"], entries[wanted]))
    except RuntimeError as error:
        raise UserError(f"{folder}: a snapshot is of another network than its manifest ({first_line(error)})") from None
    return network.eval()


def teacher_network(folder: RunFolder, architecture: str, dataset: PreparedDataset) -> Network | None:
    """Returns a network that was trained on exactly these images: the last snapshot of seed 0.

    Args:
        folder: folder of the run, in which ``pretrain`` stored its networks.
        architecture: name of the architecture.
        dataset: class shards and validation split that the network must have been trained on.

    Returns:
        The network in evaluation mode on the CPU, or None if no stored network was trained on these images.

    Raises:
        UserError: the manifest or the snapshot is damaged.
    """
    manifest = read_experts(folder, architecture)
    if manifest is None or not same_images(manifest, dataset):
        return None
    return trained_network(folder, manifest)


def split_settings(dataset: PreparedDataset) -> SplitSettings:
    """Returns the settings of a dataset's validation split."""
    return {"validation_fraction": dataset.data.validation_fraction, "split_seed": dataset.data.split_seed}


def same_images(manifest: ExpertsManifest, dataset: PreparedDataset) -> bool:
    """Whether the networks were trained on exactly the images that the dataset's split leaves for training."""
    settings = manifest.get("settings", ExpertSettings())
    stored, wanted = settings.get("data", SplitSettings()), split_settings(dataset)
    same_split = stored.get("validation_fraction") == wanted.get("validation_fraction")
    if wanted.get("validation_fraction"):  # without images held out, the seed does not matter
        same_split = same_split and stored.get("split_seed") == wanted.get("split_seed")
    return settings.get("class_shards") == dataset.key and same_split


def teacher_checksum(manifest: ExpertsManifest) -> str:
    """Returns the checksum of the network that provides soft labels: the last epoch of seed 0, however many seeds there are."""
    first = next(record for record in manifest["trajectories"] if record["seed"] == 0)
    return max(first["snapshots"], key=lambda entry: entry["epoch"])["sha256"]


def seal_of(manifest: ExpertsManifest) -> str:
    """Returns the manifest's checksum, which the rows of an evaluation record."""
    return manifest[SEAL]
