"""What a source offers: an index that is cheap to make, and its images as a stream."""

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import UserError, listed

SPLITS = ("train", "test")
WNID = re.compile(r"n\d{8}")


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


@dataclass(frozen=True, kw_only=True)
class SourceIndex:
    """What is known of a source before any image is decoded."""

    class_names: tuple[str, ...]
    """In label order."""
    counts: dict[str, tuple[int, ...]]
    """Images per class, by split: ``train``, and ``test`` where the source has one."""
    fingerprint: str
    """Changes when the source does."""


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


def wnid_of(name: str) -> str:
    """The WordNet id that a class is named by, or an empty string."""
    return name if WNID.fullmatch(name) else ""


def split_of(name: str) -> str | None:
    """``train`` or ``test`` by the beginning of a file's or folder's name (``val`` counts as test)."""
    lowered = name.lower()
    if lowered.startswith("train"):
        return "train"
    return "test" if lowered.startswith(("test", "val")) else None


def prefer_test(names: Collection[str]) -> list[str]:
    """Of the names that ``split_of`` calls test: those that begin with test, or with val where none does."""
    tests = [name for name in names if name.lower().startswith("test")]
    return tests or [name for name in names if name.lower().startswith("val")]


def require_classes(wanted: tuple[str, ...], found: tuple[str, ...], where: str) -> None:
    """Raises UserError where a wanted class is not among those found."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(f"data.classes: {listed(missing)} not found in {where}; it has {listed(found)}")
