"""By how much a format rounds pixels."""

from dataclasses import dataclass

from torch import Tensor

from m3d import standardise
from pipeline.exports.export_format import Pixels
from pipeline.exports.incoming import Moments
from pipeline.formats.peers.reader import unnormalised

STEP = 1 / 255
"""Distance of two values of eight bits."""
LOSSY = 0.01
"""Largest error, in units of STEP, that is arithmetic in float32 rather than rounding to a coarser format."""
PIECE = 2**24
"""Pixels that are compared at once."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Errors of the pixels in units of 1/255."""

    most: float
    mean: float
    pixels: Pixels

    @property
    def is_lossy(self) -> bool:
        """Whether a reader gets other pixels than those of the set, beyond rounding in float32."""
        return self.most > LOSSY

    def sentence(self) -> str:
        """The errors in words."""
        if self.pixels == "float32":
            return "The pixels are those of the set, in float32."
        if not self.is_lossy:
            return f"The pixels are those of the set up to rounding in float32 (at most {self.most:.1g}/255)."
        return f"8-bit PNG rounds the pixels, by at most {self.most:.2f}/255 and {self.mean:.2f}/255 on average."


def rounding_of(images: Tensor, pixels: Pixels, moments: Moments | None) -> Rounding:
    """Returns by how much the images that a reader gets differ from those of the set.

    Args:
        images: float32 in [0, 1].
        pixels: how the format writes them.
        moments: what it normalises them with, if it does.
    """
    most, total = 0.0, 0.0
    rows = max(1, PIECE // max(1, images[0].numel()))
    for piece in images.split(rows):
        error = (_as_read(piece, pixels, moments) - piece).abs() / STEP
        most, total = max(most, float(error.max())), total + float(error.double().sum())
    return Rounding(most=most, mean=total / images.numel(), pixels=pixels)


def _as_read(images: Tensor, pixels: Pixels, moments: Moments | None) -> Tensor:
    if pixels == "png":
        return (images * 255).round() / 255
    if pixels == "normalised" and moments is not None:
        return unnormalised(standardise(images, *moments), moments)[0]
    return images
