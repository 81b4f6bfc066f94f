"""Training sets to compare: the condensed one, random real images, and the starting images. No Ray here."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from m3d import ClassImages, Condensed, images_needed, standardise, starting_images
from m3d.seeding import derive
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.shard_reader import load_condensed


def training_set(name: str, config: RunConfig, out: str, cache: ClassCache, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images [n, C, H, W] and labels [n] of a set.

    condensed: the committed set, decoded. random: images_per_class whole real images of every class,
    drawn anew for each seed. mosaic: the images that the condensation started from, decoded the same way.
    """
    if name == "condensed":
        held = load_condensed(out)
        return held.images, held.labels
    if name == "random":
        return _random(config, cache, seed)
    return _mosaic(config, cache)


def _random(config: RunConfig, cache: ClassCache, seed: int) -> tuple[Tensor, Tensor]:
    mean, std = cache.moments
    count, parts = config.condense.images_per_class, []
    for entry in cache.classes:
        images = cache.train(entry["label"])
        random = np.random.default_rng(derive(config.seed, "random", entry["label"], seed))
        rows = torch.from_numpy(np.sort(random.permutation(len(images))[:count]))
        parts.append(images[rows])
    labels = torch.arange(len(parts)).repeat_interleave(count)
    return standardise(torch.cat(parts).float() / 255, mean, std), labels


def _mosaic(config: RunConfig, cache: ClassCache) -> tuple[Tensor, Tensor]:
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
