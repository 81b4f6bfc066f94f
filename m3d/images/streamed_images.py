"""Real images that stay in host memory or in mapped files; batches are fetched to the device one iteration ahead.

K  classes    N  images per class and batch
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from m3d.config import ConfigError
from m3d.images.image_parts import ImageParts
from m3d.images.sampler import Sampler
from m3d.shapes import ShapeError


class StreamedImages:
    """Draws the same batches as ``ClassImages`` of the same images, and fetches the next iteration's ahead.

    ``pixels_TCHW`` contains the images of the last iteration that was requested, and ``rows`` are all of them.
    """

    def __init__(
        self, images: Sequence[ImageParts], class_ids: Sequence[int], *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Args:
        images: of each class.
        class_ids: of the classes in the complete run, in the order of ``images``.
        seed: of the run.
        device: where batches are sent.

        Raises:
            ConfigError: not one set of images per class, or a class without images.
            ShapeError: images of different shapes.
        """
        if not images or len(images) != len(class_ids) or any(len(parts) < 1 for parts in images):
            raise ConfigError(
                f"classes: given {len(images)} sets of images for {len(class_ids)} class ids, needed one each"
            )
        if any(parts.shape != images[0].shape for parts in images):
            raise ShapeError("images", images[-1].shape, f"{images[0].shape}, as of the first class")
        self.sampler = Sampler(class_ids, [len(parts) for parts in images], seed)
        self.seed, self.ids, self.counts = seed, self.sampler.ids, self.sampler.counts
        self.device = torch.device(device)
        self.ids_K = torch.tensor(self.ids, dtype=torch.int64, device=self.device)
        self.images = tuple(images)
        self.pixels_TCHW = torch.empty((0, *images[0].shape), dtype=torch.uint8, device=self.device)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._fetching: dict[tuple[int, int], Future[Tensor]] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.images[0].shape

    def rows(self, iteration: int, batch: int) -> Tensor:
        """Rows of ``pixels_TCHW`` with one iteration's images, class by class: all of them, int64 on the device."""
        future = self._fetching.pop((iteration, batch), None) or self._pool.submit(self._fetch, iteration, batch)
        fetched = future.result()
        self._fetching = {(iteration + 1, batch): self._pool.submit(self._fetch, iteration + 1, batch)}
        self.pixels_TCHW = fetched.to(self.device, non_blocking=True)
        return torch.arange(len(fetched), device=self.device)

    def batch(self, iteration: int, batch: int) -> Tensor:
        """The images of one iteration, shape [K, batch, C, H, W]."""
        self.rows(iteration, batch)
        return self.pixels_TCHW.view(len(self.ids), batch, *self.shape)

    def first(self, count: int, purpose: str) -> Tensor:
        """``count`` different images of every class, the same as those of ``ClassImages``.

        Raises:
            ConfigError: a class has fewer images.
        """
        rows = [self.sampler.first(k, count, purpose) for k in range(len(self.ids))]
        return torch.stack([self.images[k].take(of_class).to(self.device) for k, of_class in enumerate(rows)])

    def _fetch(self, iteration: int, batch: int) -> Tensor:
        # Always in the one thread of the pool: the sampler keeps the classes' orders from call to call.
        indices = self.sampler.indices(iteration, batch)
        images = torch.cat([self.images[k].take(rows) for k, rows in enumerate(indices)])
        return images.pin_memory() if self.device.type == "cuda" else images
