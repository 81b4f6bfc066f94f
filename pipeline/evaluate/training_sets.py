"""Training sets to compare: the condensed one, its baselines of real images, and the mosaics that it started from. No Ray here."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from m3d import ClassImages, Condensed, images_needed, standardise, starting_images
from m3d.seeding import derive
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.baselines import SELECTED, class_mean, real_images, selected_rows
from pipeline.evaluate.soft_labels import labels_of
from pipeline.formats.condensed_reader import condensed_folder, load_condensed, read_manifest
from pipeline.formats.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Images that networks are trained on, and the moments that test images are normalised with."""

    images: Tensor
    """Normalised images, float32 [n, C, H, W]."""
    labels: Tensor
    """Labels, int64 [n], or class probabilities, float32 [n, classes]."""
    mean: tuple[float, ...]
    """Mean of every channel."""
    std: tuple[float, ...]
    """Standard deviation of every channel."""


def set_of_run(name: str, config: RunConfig, folder: RunFolder, shards: str, seed: int) -> TrainingSet:
    """A set of a run with its moments: its own for the condensed set, otherwise those of the class shards.

    Args:
        name: name of the set, as for ``training_set``.
        config: configuration of the run; ``evaluate.labels`` chooses hard or soft labels.
        folder: folder of the run.
        shards: folder of the class shards.
        seed: seed of the network.
    """
    dataset = PreparedDataset(shards, config.data)
    images, labels = training_set(name, config, folder, dataset, seed)
    moments = dataset.moments
    if name == "condensed":
        manifest = read_manifest(condensed_folder(folder.path))
        moments = tuple(manifest["mean"]), tuple(manifest["std"])
    if config.evaluate.labels == "soft":
        # The teacher was trained on images normalised with the moments of the class shards.
        teacher_images = images
        if moments != dataset.moments:
            teacher_images = standardise(load_condensed(folder.path, normalise=False).images, *dataset.moments)
        labels = labels_of(config, folder, dataset, teacher_images)
    mean, std = moments
    return TrainingSet(images=images, labels=labels, mean=mean, std=std)


def training_set(
    name: str, config: RunConfig, folder: RunFolder, dataset: PreparedDataset, seed: int
) -> tuple[Tensor, Tensor]:
    """Normalised images [n, C, H, W] and labels [n] of a set.

    condensed: the committed set, decoded. random: ``images_per_class`` real images of every class, drawn again for each
    seed. mosaic: the images that the condensation started from, decoded in the same way. herding, k_center, class_mean: as
    in ``baselines``, the same for every seed.

    Args:
        name: name of the set.
        config: configuration of the run.
        folder: folder of the run.
        dataset: the class shards.
        seed: seed of the network.

    Raises:
        UserError: the set is ``whole``, which ``pretrain`` evaluates.
    """
    count = config.condense.images_per_class
    if name == "condensed":
        condensed = load_condensed(folder.path)
        return condensed.images, condensed.labels
    if name == "random":
        return real_images(config, dataset, partial(_random, config.seed, seed, count))
    if name in SELECTED:
        rows = selected_rows(name, config, folder, dataset)
        return real_images(config, dataset, lambda label, images: images[rows[label]])
    if name == "class_mean":
        return real_images(config, dataset, lambda _, images: class_mean(images, count))
    if name == "mosaic":
        return _mosaic(config, dataset)
    raise UserError(f"evaluate.sets: {name} is not trained by evaluate; `python -m pipeline pretrain` writes its row")


def _random(run_seed: int, seed: int, count: int, label: int, images: Tensor) -> Tensor:
    random = np.random.default_rng(derive(run_seed, "random", label, seed))
    return images[torch.from_numpy(np.sort(random.permutation(len(images))[:count]))]


def _mosaic(config: RunConfig, dataset: PreparedDataset) -> tuple[Tensor, Tensor]:
    kind = "mix" if config.condense.start == "noise" else config.condense.start
    mean, std = dataset.moments
    parts = []
    start = replace(config.condense, start=kind)
    for entry in dataset.classes:  # one class at a time: the images of all classes may not fit into memory
        real = ClassImages([dataset.train(entry["label"])], [entry["label"]], seed=config.seed)
        while real.counts[0] < images_needed(start):  # only after a start from noise: a small class is repeated
            real = ClassImages([torch.cat([real.pixels_TCHW] * 2)], [entry["label"]], seed=config.seed)
        parts.append(starting_images(real, start))
    labels = tuple(range(len(parts)))
    stored = Condensed(
        images_KSCHW=torch.cat(parts), class_ids=labels, factor=config.condense.factor, mean=mean, std=std
    )
    return stored.views()
