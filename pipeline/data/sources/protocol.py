"""What a source offers: an index that is cheap to make, and its images as a stream."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from pipeline.config.run_config import Data
from pipeline.data.sources.findings import Findings

T = TypeVar("T")
Listing = dict[str, tuple[list[list[str | int]], ...]]
"""By split and class, the plain values that a source needs to find each image again."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a source."""

    label: int
    """Label of its class in the source."""
    path: str
    """Place of the image in the source, for messages and for the class shard."""
    content: bytes | np.ndarray
    """Encoded image, or uint8 pixels [H, W] or [H, W, C]."""
    where: str = ""
    """Place at which a user finds the image. Defaults to ``path``."""
    rank: int | None = None
    """Position of the image in its class, if images arrive in another order; None if they arrive in order."""
    problem: str = ""
    """Why there is no content, such as ``it is a link to nothing``; empty if there is."""


@dataclass(frozen=True, kw_only=True)
class SourceIndex:
    """Everything that is known of a source before an image is decoded."""

    class_names: tuple[str, ...]
    """Names of the classes in label order, as the source spells them."""
    counts: dict[str, tuple[int, ...]]
    """Images per class, by split: ``train``, and ``test`` if the source has one."""
    fingerprint: str
    """Checksum that changes when the source does."""
    by_class: bool = True
    """Whether a class can be read without reading the others."""
    encoded: bool = True
    """Whether images are encoded files, rather than pixels."""
    listing: Listing | None = None
    """Places of all images, stored for the workers so that they need not scan the source again. None if not needed."""
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split, the folder of each class within the source; empty if the source has no folders of classes."""
    findings: Findings = field(default_factory=Findings)
    """What was found and left out, and how splits and columns were recognised."""


@dataclass(frozen=True, kw_only=True)
class SourceListing:
    """What planning found out about a source, so that a worker need not look again."""

    class_names: tuple[str, ...]
    """As in SourceIndex."""
    images: Callable[[str, int], list[list[str | int]]]
    """Returns the entries of a split and a label of the source, as in SourceIndex."""
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As in SourceIndex."""


class Source(Protocol):
    """A labelled image data set. Every worker makes its own, so making one must be cheap."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        """Checks the settings without reading an image.

        Args:
            data: settings of the source.
            listing: what planning found out, or None while planning; most sources do not need it.

        Raises:
            UserError: a setting is missing or does not suit this kind of source.
        """
        ...

    def index(self) -> SourceIndex:
        """Returns classes, counts and fingerprint. Raises UserError if there are no images."""
        ...

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        """Yields the images of those classes in the source's own order, one at a time.

        Args:
            split: name of the split.
            labels: labels of the classes in the source.
            most: about how many images of each class to read, spread over the class. Defaults to all.
        """
        ...


def spread(items: Sequence[T], most: int | None) -> Sequence[T]:
    """Returns at most ``most`` of the items, evenly spaced; all of them if it is None."""
    if most is None or len(items) <= most:
        return items
    return [items[(2 * i + 1) * len(items) // (2 * most)] for i in range(most)]


def places(targets: np.ndarray, labels: Collection[int], most: int | None) -> list[int]:
    """Returns the places of some classes in an array of labels, in their order; at most ``most`` of each class."""
    if most is None:
        return np.flatnonzero(np.isin(targets, list(labels))).tolist()
    return sorted(place for label in labels for place in spread(np.flatnonzero(targets == label).tolist(), most))


def fingerprint(*parts: object) -> str:
    """Returns a checksum of everything that identifies a source, 16 hexadecimal digits."""
    text = "\n".join(map(str, parts))  # names of files need not be UTF-8
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
