"""The real images of a group of classes: contiguous uint8 on the device, drawn by counter.

K  classes    N  images per class and batch    T  images of all classes
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from m3d.config import ConfigError
from m3d.images.image_parts import ImageParts
from m3d.seeding import permutation
from m3d.shapes import Int, ShapeError, UInt8

AHEAD = 64
"""Iterations whose draws are made at once."""


class ClassImages:
    """Holds the images of some classes and draws batches of them without replacement within an epoch.

    A class's images form an endless stream: one seeded order of all of them after another. Iteration i
    takes the images from ``i * batch`` on, so a draw depends on (seed, class id, iteration) alone, and a
    class smaller than the batch is seen whole, each of its images about equally often.
    """

    def __init__(
        self,
        images: Sequence[UInt8[Tensor, "_ C H W"] | ImageParts],
        class_ids: Sequence[int],
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args: one uint8 tensor per class, or its parts, in the order of ``class_ids``, the ids in the whole run."""
        if not images or len(images) != len(class_ids):
            raise ConfigError(
                f"classes: given {len(images)} sets of images for {len(class_ids)} class ids, needed one each"
            )
        shape = images[0].parts[0].shape[1:] if isinstance(images[0], ImageParts) else images[0].shape[1:]
        for held, class_id in zip(images, class_ids, strict=True):
            for tensor in held.parts if isinstance(held, ImageParts) else (held,):
                if tensor.ndim != 4 or tensor.shape[1:] != shape or not len(held):
                    raise ShapeError(
                        f"images of class {class_id}", tuple(tensor.shape), f"[n, {', '.join(map(str, shape))}], n > 0"
                    )
                if tensor.dtype != torch.uint8:
                    raise ConfigError(f"images of class {class_id}: given {tensor.dtype}, needed torch.uint8 in 0..255")
        self._draws(class_ids, [len(held) for held in images], seed, device)
        self.pixels_TCHW = torch.empty((sum(self.counts), *shape), dtype=torch.uint8, device=self.device)
        for held, place in zip(images, self.pixels_TCHW.split(list(self.counts)), strict=True):
            if isinstance(held, ImageParts):  # never all classes twice in memory
                held.copy_to(place)
            else:
                place.copy_(held)
        self._offsets = [sum(self.counts[:k]) for k in range(len(images))]

    def _draws(self, class_ids: Sequence[int], counts: Sequence[int], seed: int, device: torch.device | str) -> None:
        """What drawing needs, wherever the images lie."""
        self.device = torch.device(device)
        self.seed = seed
        self.ids = tuple(int(i) for i in class_ids)
        self.ids_K = torch.tensor(self.ids, dtype=torch.int64, device=self.device)
        self.counts = tuple(counts)
        self._orders: dict[tuple[int, int], Tensor] = {}
        self._window: tuple[int, int] | None = None
        self._ahead: Tensor = self.ids_K  # until the first call of rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.pixels_TCHW.shape[1:]
        return channels, height, width

    def indices(self, iteration: int, batch: int) -> Int[Tensor, "K N"]:
        """Positions within each class of the images of one iteration: int64 on the CPU, shape [K, batch]."""
        rows = [self._stream(k, iteration * batch, batch) for k in range(len(self.ids))]
        return torch.stack(rows)

    def rows(self, iteration: int, batch: int) -> Int[Tensor, " KN"]:
        """Rows of ``pixels_TCHW`` of one iteration's images, class by class: int64 on the device, [K * batch].

        Those of the next ``AHEAD`` iterations are made and sent together.
        """
        first = iteration - iteration % AHEAD
        if self._window != (first, batch):
            streams = [
                self._stream(k, first * batch, AHEAD * batch).view(AHEAD, batch) + self._offsets[k]
                for k in range(len(self.ids))
            ]
            self._ahead = torch.stack(streams, dim=1).flatten(1).to(self.device, non_blocking=True)
            self._window = (first, batch)
        return self._ahead[iteration - first]

    def batch(self, iteration: int, batch: int) -> UInt8[Tensor, "K N C H W"]:
        """The images of one iteration, shape [K, batch, C, H, W]."""
        taken = self.pixels_TCHW.index_select(0, self.rows(iteration, batch))
        return taken.view(len(self.ids), batch, *self.shape)

    def first(self, count: int, purpose: str) -> UInt8[Tensor, "K N C H W"]:
        """``count`` different images of every class, the first of a seeded order of their own.

        Raises:
            ConfigError: a class has fewer images.
        """
        parts = []
        for k, class_id in enumerate(self.ids):
            if self.counts[k] < count:
                raise ConfigError(
                    f"class {class_id}: has {self.counts[k]} images, needed {count} for its starting images"
                )
            order = permutation(self.seed, purpose, class_id, 0, self.counts[k])[:count]
            parts.append(self.pixels_TCHW.index_select(0, (order + self._offsets[k]).to(self.device)))
        return torch.stack(parts)

    def _stream(self, k: int, start: int, length: int) -> Tensor:
        size, pieces = self.counts[k], []
        while length > 0:
            epoch, position = divmod(start, size)
            piece = self._order(k, epoch)[position : position + length]
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return torch.cat(pieces)

    def _order(self, k: int, epoch: int) -> Tensor:
        key = (k, epoch)
        if key not in self._orders:
            # Batches move forward, so an epoch before the last one is never asked for again.
            self._orders = {
                other: order for other, order in self._orders.items() if other[0] != k or other[1] >= epoch - 1
            }
            self._orders[key] = permutation(self.seed, "sample", self.ids[k], epoch, self.counts[k])
        return self._orders[key]
