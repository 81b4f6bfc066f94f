"""Starting images of a condensation."""

import torch
from torch import Tensor

from m3d.config import Condense
from m3d.formation import mosaic
from m3d.images.real_images import RealImages
from m3d.seeding import generator
from m3d.shapes import Float

PURPOSE = "start"


def images_needed(config: Condense) -> int:
    """Number of real images that a class needs for its starting images."""
    per_stored = {"mix": config.factor**2, "random": 1, "noise": 0}[config.start]
    return max(1, config.images_per_class * per_stored)


def starting_images(real: RealImages, config: Condense) -> Float[Tensor, "K S C H W"]:
    """The stored images before the first iteration, in [0, 1], on the device of ``real``: a function of (seed, class id).

    mix: mosaics of factor**2 different real images. random: one real image each. noise: normal numbers with mean 1/2
    and standard deviation 1/4, clamped to [0, 1].

    Args:
        real: images of the classes.
        config: kind of start, images per class and factor.

    Returns:
        float32, shape [K, S, C, H, W].

    Raises:
        ConfigError: a class has fewer images than ``images_needed``.
    """
    stored = config.images_per_class
    if config.start == "noise":
        parts = [
            torch.randn((stored, *real.shape), generator=generator(real.seed, PURPOSE, class_id))
            for class_id in real.ids
        ]
        return (torch.stack(parts) / 4 + 0.5).clamp(0, 1).to(real.device)
    chosen = real.first(images_needed(config), PURPOSE).float() / 255
    if config.start == "random":
        return chosen
    tiles = chosen.view(len(real.ids) * stored, config.factor**2, *real.shape)
    return mosaic(tiles, config.factor).view(len(real.ids), stored, *real.shape)
