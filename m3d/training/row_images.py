"""The full training set as rows: images of all classes under one row number each.

B  images of a batch    C, H, W  channels, height, width
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from m3d.shapes import Int, ShapeError, UInt8

COPIED_BYTES = 2**31
"""Largest set that is copied to the device; larger ones are read batch by batch from where they are."""


class RowImages:
    """The images of all classes under one row number each, class by class, and their normalisation."""

    def __init__(
        self,
        classes: Sequence[UInt8[Tensor, "_ C H W"]],
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device | str = "cpu",
    ) -> None:
        """Args:
        classes: one uint8 tensor per class, in label order; memory-mapped ones stay mapped if they are large.
        mean: per channel, for images in [0, 1].
        std: standard deviation per channel.
        device: of the batches.

        Raises:
            ShapeError: images of different shapes.
        """
        self.device, self.mean, self.std = torch.device(device), mean, std
        self.shape = tuple(classes[0].shape[1:])
        if any(tuple(images.shape[1:]) != self.shape for images in classes):
            expected = f"[n, {', '.join(map(str, self.shape))}] in every class"
            raise ShapeError("images", tuple(classes[-1].shape), expected)
        counts = torch.tensor([len(images) for images in classes])
        self.labels = torch.arange(len(classes)).repeat_interleave(counts)
        self._first, self.classes = counts.cumsum(0) - counts, len(counts)
        copied = len(self.labels) * math.prod(self.shape) <= COPIED_BYTES
        self._parts = [torch.cat(list(classes)).to(self.device)] if copied else list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C H W"]:
        """Images of some rows (int64 on the CPU), on the device."""
        if len(self._parts) == 1:
            return self._parts[0].index_select(0, rows.to(self.device))
        images = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        labels = self.labels[rows]
        for label in labels.unique().tolist():
            here = (labels == label).nonzero()[:, 0]
            images[here] = self._parts[label].index_select(0, rows[here] - self._first[label])
        return images.to(self.device)
