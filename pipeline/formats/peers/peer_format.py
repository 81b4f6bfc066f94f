"""What the format of a peer provides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.config.run_config import Data

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation by channel, of pixels in [0, 1]."""


class LayoutError(Exception):
    """A file's content has another layout; the message says what the content is."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Images and labels as a file holds them."""

    images: Tensor
    """Of any shape and type; the reader checks them."""
    labels: Any
    """Tensor or list of numbers, one-dimensional, in a column, or soft; the reader checks them."""


@dataclass(frozen=True, kw_only=True)
class PeerFormat:
    """A format: how its files are read and written, and how its images are normalised."""

    read: Callable[[str], Stored]
    """Reads a file. Raises LayoutError if its content has another layout, and UserError if it cannot be read."""
    write: Callable[[str, Tensor, Tensor], None]
    """Writes images and labels to a path."""
    moments: Callable[[Data], Moments | None] | None = None
    """Moments that the published code normalises a data set with, None if unknown; no function if pixels are in [0, 1]."""
    suffixes: tuple[str, ...] = (".pt", ".pth")
    """Endings of its files: an argument with one of them names a file rather than a folder."""


def pair(content: Any, value: Any) -> Stored:
    """Returns images and labels of a sequence that begins with them.

    Args:
        content: the complete content of the file, for the message.
        value: the part of it that must be the sequence.

    Raises:
        LayoutError: it is no such sequence.
    """
    if not isinstance(value, list | tuple) or len(value) < 2 or not isinstance(value[0], Tensor):
        raise LayoutError(type(content).__name__)
    return Stored(images=value[0], labels=value[1])
