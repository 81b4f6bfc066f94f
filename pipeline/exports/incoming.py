"""What a format returns for a file: images and labels, before they are checked against what is known of the set."""

from dataclasses import dataclass

from torch import Tensor

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation by channel."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a file besides its content: from ``m3d.json`` beside it, or from the command line."""

    classes: int | None = None
    """Number of classes."""
    moments: Moments | None = None
    """What the images are normalised with, for the formats of which they are."""


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """The content of a file."""

    images: Tensor
    """float32 in [0, 1], shape [n, C, H, W]."""
    labels: Tensor
    """int64 [n]."""
    names: tuple[str, ...] | None = None
    """Names of the classes by label, if the file has them."""
    factor: int | None = None
    """Tiles along a side of an image, if the file says it."""
    moments: Moments | None = None
    """Moments of the real images, if the file says them."""
    notes: tuple[str, ...] = ()
    """What the user should know about the file."""
