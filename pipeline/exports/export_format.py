"""What a format provides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from m3d import standardise
from pipeline.config.run_config import Data
from pipeline.exports.incoming import Incoming, Known, Moments
from pipeline.exports.portable_set import PortableSet

Pixels = Literal["float32", "normalised", "png"]
"""How pixels are written: as they are, normalised, or rounded to 8 bits."""
Views = Literal["decoded", "stored"]
"""Which images are written: every tile as a full-size image, or the stored images."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A set as a format writes it."""

    images: PortableSet
    name: str
    """Name of the data."""
    normalised_with: Moments | None = None
    """What the images are normalised with; None unless the format is one of normalised images."""
    encoder: str = ""
    """Network that the set was condensed with; empty if it is not known."""
    accuracies: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Accuracies of networks that were trained on the set, as fractions, by architecture."""
    card: str = ""
    """Data card, as Markdown with a header in YAML."""

    def pixels(self) -> Tensor:
        """The images as the format has them: normalised, or in [0, 1]."""
        images = self.images.images
        return images if self.normalised_with is None else standardise(images, *self.normalised_with)


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A format: how its files are written and read."""

    write: Callable[[str, Outgoing], None]
    """Writes the files of a set into an empty folder."""
    read: Callable[[str, Known], Incoming]
    """Reads a file, or the folder of an export. Raises UserError if it is not of this format."""
    pixels: Pixels
    views: Views = "decoded"
    """Which images its readers expect."""
    moments: Callable[[Data], Moments | None] | None = None
    """Moments of the published code that reads it, None if unknown; no function unless images are normalised."""
