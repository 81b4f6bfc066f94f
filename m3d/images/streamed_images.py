"""Real images that do not lie on the device: in host memory or in mapped files, a batch at a time fetched ahead.

K  classes    N  images per class and batch
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from m3d.config import ConfigError
from m3d.images.class_images import ClassImages
from m3d.images.image_parts import ImageParts
from m3d.seeding import permutation
from m3d.shapes import ShapeError


class StreamedImages(ClassImages):
    """Draws the same batches as ClassImages of the same images; the batch of the next iteration is fetched ahead.

    ``pixels_TCHW`` holds the images of the last iteration that was asked for, and ``rows`` are all of them.
    """

    def __init__(
        self, images: Sequence[ImageParts], class_ids: Sequence[int], *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Args: as for ClassImages."""
        if not images or len(images) != len(class_ids) or any(len(one) < 1 for one in images):
            raise ConfigError(
                f"classes: given {len(images)} sets of images for {len(class_ids)} class ids, needed one each"
            )
        if any(one.shape != images[0].shape for one in images):
            raise ShapeError("images", images[-1].shape, f"{images[0].shape}, as of the first class")
        self._draws(class_ids, [len(one) for one in images], seed, device)
        self.images = tuple(images)
        self.pixels_TCHW = torch.empty((0, *images[0].shape), dtype=torch.uint8, device=self.device)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._coming: dict[tuple[int, int], Future[Tensor]] = {}

    def rows(self, iteration: int, batch: int) -> Tensor:
        """Rows of ``pixels_TCHW`` of one iteration's images, class by class: all of them, int64 on the device."""
        coming = self._coming.pop((iteration, batch), None) or self._pool.submit(self._fetch, iteration, batch)
        fetched = coming.result()
        self._coming = {(iteration + 1, batch): self._pool.submit(self._fetch, iteration + 1, batch)}
        self.pixels_TCHW = fetched.to(self.device, non_blocking=True)
        return torch.arange(len(fetched), device=self.device)

    def batch(self, iteration: int, batch: int) -> Tensor:
        """The images of one iteration, shape [K, batch, C, H, W]."""
        self.rows(iteration, batch)
        return self.pixels_TCHW.view(len(self.ids), batch, *self.shape)

    def first(self, count: int, purpose: str) -> Tensor:
        """``count`` different images of every class, as of ClassImages."""
        parts = []
        for k, class_id in enumerate(self.ids):
            if self.counts[k] < count:
                raise ConfigError(
                    f"class {class_id}: has {self.counts[k]} images, needed {count} for its starting images"
                )
            order = permutation(self.seed, purpose, class_id, 0, self.counts[k])[:count]
            parts.append(self.images[k].take(order).to(self.device))
        return torch.stack(parts)

    def _fetch(self, iteration: int, batch: int) -> Tensor:
        # Always in the one thread of the pool: the orders of the classes are kept from call to call.
        taken = torch.cat([self.images[k].take(rows) for k, rows in enumerate(self.indices(iteration, batch))])
        return taken.pin_memory() if self.device.type == "cuda" else taken
