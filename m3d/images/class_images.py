"""The real images of a group of classes: contiguous uint8 on the device, drawn by counter.

K  classes    N  images per class and batch    T  images of all classes
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from m3d.config import ConfigError
from m3d.images.image_parts import ImageParts
from m3d.images.sampler import Sampler
from m3d.shapes import Int, ShapeError, UInt8

AHEAD = 64
"""Iterations whose draws are made at once."""


class ClassImages:
    """Stores the images of some classes on a device and draws batches of them; see ``Sampler`` for the draws."""

    def __init__(
        self,
        images: Sequence[UInt8[Tensor, "_ C H W"] | ImageParts],
        class_ids: Sequence[int],
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args:
        images: one uint8 tensor per class, or its parts.
        class_ids: of the classes in the complete run, in the order of ``images``.
        seed: of the run.
        device: where the images are stored.

        Raises:
            ConfigError: not one set of images per class, or not uint8.
            ShapeError: images of different shapes, or a class without images.
        """
        if not images or len(images) != len(class_ids):
            raise ConfigError(
                f"classes: given {len(images)} sets of images for {len(class_ids)} class ids, needed one each"
            )
        shape = images[0].parts[0].shape[1:] if isinstance(images[0], ImageParts) else images[0].shape[1:]
        for of_class, class_id in zip(images, class_ids, strict=True):
            _check(of_class, class_id, shape)
        self.sampler = Sampler(class_ids, [len(of_class) for of_class in images], seed)
        self.seed, self.ids, self.counts = seed, self.sampler.ids, self.sampler.counts
        self.device = torch.device(device)
        self.ids_K = torch.tensor(self.ids, dtype=torch.int64, device=self.device)
        self.pixels_TCHW = torch.empty((sum(self.counts), *shape), dtype=torch.uint8, device=self.device)
        for of_class, place in zip(images, self.pixels_TCHW.split(list(self.counts)), strict=True):
            if isinstance(of_class, ImageParts):  # never all classes twice in memory
                of_class.copy_to(place)
            else:
                place.copy_(of_class)
        self._offsets = [0, *accumulate(self.counts)][:-1]
        self._window: tuple[int, int] | None = None
        self._ahead: Tensor = self.ids_K  # until the first call of rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.pixels_TCHW.shape[1:]
        return channels, height, width

    def rows(self, iteration: int, batch: int) -> Int[Tensor, " KN"]:
        """Rows of ``pixels_TCHW`` with one iteration's images, class by class: int64 on the device, [K * batch].

        Those of ``AHEAD`` iterations are drawn and sent to the device together.
        """
        first = iteration - iteration % AHEAD
        if self._window != (first, batch):
            streams = [
                self.sampler.stream(k, first * batch, AHEAD * batch).view(AHEAD, batch) + self._offsets[k]
                for k in range(len(self.ids))
            ]
            self._ahead = torch.stack(streams, dim=1).flatten(1).to(self.device, non_blocking=True)
            self._window = (first, batch)
        return self._ahead[iteration - first]

    def batch(self, iteration: int, batch: int) -> UInt8[Tensor, "K N C H W"]:
        """The images of one iteration, shape [K, batch, C, H, W]."""
        drawn = self.pixels_TCHW.index_select(0, self.rows(iteration, batch))
        return drawn.view(len(self.ids), batch, *self.shape)

    def first(self, count: int, purpose: str) -> UInt8[Tensor, "K N C H W"]:
        """``count`` different images of every class, the first of a seeded order of this purpose.

        Raises:
            ConfigError: a class has fewer images.
        """
        rows = [self.sampler.first(k, count, purpose) + self._offsets[k] for k in range(len(self.ids))]
        return torch.stack([self.pixels_TCHW.index_select(0, of_class.to(self.device)) for of_class in rows])


def _check(images: Tensor | ImageParts, class_id: int, shape: Sequence[int]) -> None:
    for tensor in images.parts if isinstance(images, ImageParts) else (images,):
        if tensor.ndim != 4 or tensor.shape[1:] != shape or not len(images):
            expected = f"[n, {', '.join(map(str, shape))}], n > 0"
            raise ShapeError(f"images of class {class_id}", tuple(tensor.shape), expected)
        if tensor.dtype != torch.uint8:
            raise ConfigError(f"images of class {class_id}: given {tensor.dtype}, needed torch.uint8 in 0..255")
