"""Which real images are drawn when: positions within each class, a function of (seed, class id, iteration).

K  classes    N  images per class and batch
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from m3d.config import ConfigError
from m3d.seeding import permutation
from m3d.shapes import Int


class Sampler:
    """Draws batches of every class without replacement within an epoch.

    A class's images form an endless stream: one seeded order of all of them after another. Iteration i takes the
    images from ``i * batch`` on. A draw therefore depends on (seed, class id, iteration) alone. A class smaller than
    the batch is drawn completely, each of its images about equally often.
    """

    def __init__(self, class_ids: Sequence[int], counts: Sequence[int], seed: int) -> None:
        """Args:
        class_ids: of the classes in the complete run.
        counts: images of each class, at least 1.
        seed: of the run.
        """
        self.ids, self.counts, self.seed = tuple(int(i) for i in class_ids), tuple(counts), seed
        self._orders: list[dict[int, Tensor]] = [{} for _ in self.ids]
        """Orders of every class by epoch."""

    def indices(self, iteration: int, batch: int) -> Int[Tensor, "K N"]:
        """Positions within each class of the images of one iteration: int64 on the CPU, shape [K, batch]."""
        return torch.stack([self.stream(k, iteration * batch, batch) for k in range(len(self.ids))])

    def stream(self, k: int, start: int, length: int) -> Int[Tensor, " length"]:
        """Positions ``start`` to ``start + length`` in the stream of the class at index ``k``, int64 on the CPU."""
        size, pieces = self.counts[k], []
        while length > 0:
            epoch, position = divmod(start, size)
            piece = self._order(k, epoch)[position : position + length]
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return torch.cat(pieces)

    def first(self, k: int, count: int, purpose: str) -> Int[Tensor, " count"]:
        """Positions of ``count`` different images of the class at index ``k``, from a seeded order of this purpose.

        Raises:
            ConfigError: the class has fewer images.
        """
        size, class_id = self.counts[k], self.ids[k]
        if size < count:
            raise ConfigError(f"class {class_id}: has {size} images, needed {count} for its starting images")
        return permutation(self.seed, purpose, class_id, 0, size)[:count]

    def _order(self, k: int, epoch: int) -> Tensor:
        orders = self._orders[k]
        if epoch not in orders:
            # Batches move forward, so an epoch before the last one is never needed again.
            for passed in [other for other in orders if other < epoch - 1]:
                del orders[passed]
            orders[epoch] = permutation(self.seed, "sample", self.ids[k], epoch, self.counts[k])
        return orders[epoch]
