"""What a source offers: an index that is cheap to make, and its images as a stream."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Listing = dict[str, tuple[list[list[str | int]], ...]]
"""By split and class, what a source needs to find each image again: plain values."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a source."""

    label: int
    path: str
    """Its place in the source, for messages and for the class shard."""
    content: bytes | np.ndarray
    """An encoded image, or uint8 pixels [H, W] or [H, W, C]."""
    where: str = ""
    """Where a person finds it; ``path`` when not given."""
    rank: int | None = None
    """Its place in the order of its class, where images come in another order; None where they come in order."""


@dataclass(frozen=True, kw_only=True)
class SourceIndex:
    """What is known of a source before any image is decoded."""

    class_names: tuple[str, ...]
    """In label order."""
    counts: dict[str, tuple[int, ...]]
    """Images per class, by split: ``train``, and ``test`` where the source has one."""
    fingerprint: str
    """Changes when the source does."""
    by_class: bool = True
    """Whether a class's images can be read without going through those of others."""
    listing: Listing | None = None
    """What is kept for the workers, so that they need not go through the source again."""


@dataclass(frozen=True, kw_only=True)
class SourceListing:
    """What was found out when a run was planned, so that a worker need not look again."""

    class_names: tuple[str, ...]
    """As of SourceIndex."""
    listing: Callable[[str, int], list[list[str | int]]]
    """Of a split and a label of the source, as of SourceIndex."""


class Source(Protocol):
    """A labelled image data set. Sources are made anew in every worker and must be cheap to make."""

    def index(self) -> SourceIndex:
        """Classes, counts and fingerprint. Raises UserError where there are no images."""
        ...

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        """The images of those classes in the source's own order, one at a time."""
        ...


def fingerprint(*parts: object) -> str:
    """A checksum of what identifies a source, 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
