"""Soft labels: what a stored teacher takes every training image for. No Ray here.

The teacher is a network that ``pretrain`` trained on the whole training set, ``pretrain.architecture`` of seed 0. Its class
probabilities of the images as they are, without augmentation, take the place of the labels.
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
"""Pixels of images that the teacher takes at once."""


def teacher_of(config: RunConfig, out: str, cache: PreparedDataset) -> str:
    """The checksum of the stored teacher.

    Raises:
        UserError: ``pretrain`` has stored none that was trained on these images.
    """
    name = config.pretrain.architecture
    manifest = reader.read_experts(RunFolder(out), name)
    if manifest is None or not reader.same_images(manifest, cache):
        raise without_teacher(config, out)
    return reader.teacher_checksum(manifest)


def labels_of(config: RunConfig, out: str, cache: PreparedDataset, images: Tensor) -> Tensor:
    """Class probabilities [n, classes] of normalised images, of the run's teacher. Raises UserError like ``teacher_of``."""
    teacher_of(config, out, cache)
    teacher = reader.feature_network(RunFolder(out), config.pretrain.architecture, cache)
    assert teacher is not None
    return probabilities(teacher, images)


@torch.no_grad()
def probabilities(teacher: Network, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
    """Class probabilities, float32, a block of images at a time."""
    block = max(1, BLOCK_PIXELS // images.shape[-1] ** 2)
    parts = []
    for part in images.split(block):
        with encoding("float32", part.device):
            parts.append(F.softmax(teacher(part).float(), dim=1))
    return torch.cat(parts)


def without_teacher(config: RunConfig, out: str) -> UserError:
    """That the teacher is missing, and what trains it."""
    name = config.pretrain.architecture
    return UserError(
        f"evaluate.labels=soft: {out} has no {name} trained on these images; run {pretrain_command(out, name)} first"
    )


def pretrain_command(out: str, architecture: str) -> str:
    """What trains the network that is missing in a folder."""
    record, place = storage.join(out, "config.json"), shlex.quote(out)
    if not storage.exists(record):
        return f"`python -m pipeline pretrain --out {place}` with the settings of its data"
    given = f"--config {shlex.quote(record)} --out {place} --set pretrain.architecture={architecture}"
    return f"`python -m pipeline pretrain {given}`"
