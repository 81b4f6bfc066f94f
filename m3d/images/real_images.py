"""What a condenser needs of real images, wherever they are stored."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable  # for the type checks of the tests
class RealImages(Protocol):
    """The real images of a group of classes: ``ClassImages`` on the device, ``StreamedImages`` in memory or files."""

    seed: int
    """Seed of the run."""
    ids: tuple[int, ...]
    """Ids of the classes in the complete run."""
    device: torch.device
    """Device of the drawn images."""
    pixels_TCHW: Tensor
    """uint8 images on the device that ``rows`` refers to."""
    ids_K: Tensor
    """The same ids, int64 on the device."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...

    def rows(self, iteration: int, batch: int) -> Tensor:
        """Rows of ``pixels_TCHW`` with one iteration's images, class by class: int64 on the device, [K * batch].

        ``pixels_TCHW`` is valid for these rows until the next call.
        """
        ...

    def first(self, count: int, purpose: str) -> Tensor:
        """``count`` different images per class on the device, uint8 [K, count, C, H, W], from a seeded order.

        Raises:
            ConfigError: a class has fewer images.
        """
        ...
