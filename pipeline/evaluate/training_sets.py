"""Training sets to compare: the condensed one, real images, and the starting images. No Ray here."""

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
from pipeline.evaluate.baselines import CHOSEN, chosen_rows, class_mean, real_images
from pipeline.evaluate.soft_labels import labels_of
from pipeline.formats.condensed_reader import condensed_folder, load_condensed, read_manifest


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What a network is trained on, and how its test images are normalised."""

    images: Tensor
    """Normalised, float32 [n, C, H, W]."""
    labels: Tensor
    """int64 [n], or class probabilities [n, classes]."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


def training_set(name: str, config: RunConfig, out: str, cache: PreparedDataset, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images [n, C, H, W] and labels [n] of a set.

    condensed: the committed set, decoded. random: images_per_class whole real images of every class,
    drawn anew for each seed. mosaic: the images that the condensation started from, decoded the same way.
    herding, k_center, class_mean: as ``baselines`` says, the same for every seed.

    Raises:
        UserError: ``whole``, which ``pretrain`` evaluates.
    """
    count = config.condense.images_per_class
    if name == "condensed":
        held = load_condensed(out)
        return held.images, held.labels
    if name == "random":
        return real_images(config, cache, partial(_random, config.seed, seed, count))
    if name in CHOSEN:
        rows = chosen_rows(name, config, out, cache)
        return real_images(config, cache, lambda label, images: images[rows[label]])
    if name == "class_mean":
        return real_images(config, cache, lambda _, images: class_mean(images, count))
    if name == "mosaic":
        return _mosaic(config, cache)
    raise UserError(f"evaluate.sets: {name} is not trained by evaluate; `python -m pipeline pretrain` writes its row")


def set_of_run(name: str, config: RunConfig, out: str, cache_folder: str, seed: int) -> TrainingSet:
    """``training_set`` with its moments: the condensed set's own, else those of the class shards in a folder."""
    cache = PreparedDataset(cache_folder, config.data)
    images, labels = training_set(name, config, out, cache, seed)
    moments = cache.moments
    if name == "condensed":
        manifest = read_manifest(condensed_folder(out))
        moments = tuple(manifest["mean"]), tuple(manifest["std"])
    if config.evaluate.labels == "soft":
        # The teacher knows images normalised by the moments of the class shards.
        own = moments == cache.moments
        seen = images if own else standardise(load_condensed(out, normalise=False).images, *cache.moments)
        labels = labels_of(config, out, cache, seen)
    mean, std = moments
    return TrainingSet(images=images, labels=labels, mean=mean, std=std)


def _random(run_seed: int, seed: int, count: int, label: int, images: Tensor) -> Tensor:
    random = np.random.default_rng(derive(run_seed, "random", label, seed))
    return images[torch.from_numpy(np.sort(random.permutation(len(images))[:count]))]


def _mosaic(config: RunConfig, cache: PreparedDataset) -> tuple[Tensor, Tensor]:
    kind = "mix" if config.condense.start == "noise" else config.condense.start
    mean, std = cache.moments
    parts = []
    config_of_start = replace(config.condense, start=kind)
    for entry in cache.classes:  # one class at a time: never the images of all classes
        real = ClassImages([cache.train(entry["label"])], [entry["label"]], seed=config.seed)
        while real.counts[0] < images_needed(config_of_start):  # only where the start is noise: a small class repeats
            real = ClassImages([torch.cat([real.pixels_TCHW] * 2)], [entry["label"]], seed=config.seed)
        parts.append(starting_images(real, config_of_start))
    labels = tuple(range(len(parts)))
    whole = Condensed(
        images_KSCHW=torch.cat(parts), class_ids=labels, factor=config.condense.factor, mean=mean, std=std
    )
    return whole.views()
