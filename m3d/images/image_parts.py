"""A class's images in several tensors, such as the mapped record batches of a file."""

from collections.abc import Sequence

import torch
from torch import Tensor

from m3d.shapes import ShapeError

CHUNK = 256
"""Images gathered at a time if only some of the rows count."""


class ImageParts:
    """A class's images in several tensors. Only the rows that are requested are read."""

    def __init__(self, parts: Sequence[Tensor], kept: Tensor | None = None) -> None:
        """Args:
        parts: uint8 tensors [n, C, H, W], one after another.
        kept: rows of the joined parts that count, in order. Defaults to all.

        Raises:
            ShapeError: no parts, or parts that differ in shape or are not uint8.
        """
        if not parts or any(part.dtype != torch.uint8 or part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise ShapeError(
                "images", tuple(parts[0].shape) if parts else (), "[n, C, H, W] of uint8, all of one shape"
            )
        self.parts, self.kept = tuple(parts), kept
        self._starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)

    def __len__(self) -> int:
        return int(self._starts[-1]) if self.kept is None else len(self.kept)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.parts[0].shape[1:]
        return channels, height, width

    def take(self, rows: Tensor) -> Tensor:
        """The images of some rows, in their order, uint8 [rows, C, H, W] on the CPU."""
        rows = rows if self.kept is None else self.kept[rows]
        images = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        owner = torch.bucketize(rows, self._starts[1:], right=True)
        for index in owner.unique().tolist():
            mine = (owner == index).nonzero()[:, 0]
            images[mine] = self.parts[index].index_select(0, rows[mine] - self._starts[index])
        return images

    def copy_to(self, target: Tensor) -> None:
        """Writes all images, in order, into a uint8 tensor [n, C, H, W] on any device, ``CHUNK`` at a time."""
        if self.kept is None:
            for part, place in zip(self.parts, target.split([len(part) for part in self.parts]), strict=True):
                place.copy_(part)
            return
        for rows, place in zip(torch.arange(len(self)).split(CHUNK), target.split(CHUNK), strict=True):
            place.copy_(self.take(rows))
