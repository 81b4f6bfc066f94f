"""Soft labels: the class probabilities that a stored teacher predicts for every training image. No Ray here.

The teacher is the network of seed 0 and of ``pretrain.architecture`` that ``pretrain`` trained on the full training set. Its
predictions for the images without augmentation replace the labels.
"""

import shlex

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d.backend.precision import encoding
from m3d.encoders import Network
from m3d.shapes import Float
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain import reader

BLOCK_PIXELS = 256 * 32 * 32
"""Pixels of images that go through the teacher at once."""


def teacher_of(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> str:
    """The checksum of the stored teacher.

    Raises:
        UserError: ``pretrain`` has not stored a network that was trained on these images.
    """
    manifest = reader.read_experts(folder, config.pretrain.architecture)
    if manifest is None or not reader.same_images(manifest, dataset):
        raise without_teacher(config, folder)
    return reader.teacher_checksum(manifest)


def labels_of(config: RunConfig, folder: RunFolder, dataset: PreparedDataset, images: Tensor) -> Tensor:
    """Class probabilities [n, classes] that the run's teacher predicts for normalised images.

    Raises:
        UserError: ``pretrain`` has not stored a network that was trained on these images.
    """
    teacher = reader.teacher_network(folder, config.pretrain.architecture, dataset)
    if teacher is None:
        raise without_teacher(config, folder)
    return probabilities(teacher, images)


@torch.no_grad()
def probabilities(teacher: Network, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
    """Class probabilities, float32, computed a block of images at a time."""
    block = max(1, BLOCK_PIXELS // images.shape[-1] ** 2)
    parts = []
    for part in images.split(block):
        with encoding("float32", part.device):
            parts.append(F.softmax(teacher(part).float(), dim=1))
    return torch.cat(parts)


def without_teacher(config: RunConfig, folder: RunFolder) -> UserError:
    """The error that the teacher is missing, with the command that trains it."""
    name = config.pretrain.architecture
    return UserError(
        f"evaluate.labels=soft: {folder} has no {name} trained on these images; run {pretrain_command(folder, name)} first"
    )


def pretrain_command(folder: RunFolder, architecture: str) -> str:
    """The command that trains the missing network of a folder."""
    place = shlex.quote(folder.path)
    if not storage.exists(folder.config_json):
        return f"`python -m pipeline pretrain --out {place}` with the settings of its data"
    record = shlex.quote(folder.config_json)
    return f"`python -m pipeline pretrain --config {record} --out {place} --set pretrain.architecture={architecture}`"
