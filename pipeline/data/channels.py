"""Whether the images of a source are stored in grey or in colour, if ``data.channels`` does not say so.

Grey is for sources in which every image that is looked at is grey. A small source is looked at completely, of a large one
some images of every class, spread over the class (if there are very many classes, of some of them, spread over all):
names of files decide nothing. Should an image among those that were
not looked at have colours, the run ends there and asks for ``data.channels``.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.run_config import Data
from pipeline.data.decode_image import BadImageError, channels_of
from pipeline.data.sources.protocol import Item, Source, SourceIndex, spread
from pipeline.errors import UserError

LOOK_AT = 1024
"""Images that are looked at while all of them are grey; one of every class, or of as many classes if there are more."""
ENOUGH = 64
"""Images that are looked at even if one of them has colours."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of the class shards, and what they follow from."""

    count: int
    """1 or 3."""
    note: str = ""
    """A line for the user, if grey and coloured images were seen."""


def channels_of_source(data: Data, source: Source, index: SourceIndex, labels: Sequence[int]) -> Channels:
    """Returns the channels that the class shards get.

    Args:
        data: settings of the source; ``channels`` decides if it is given.
        source: the source.
        index: its index.
        labels: labels of the run's classes in the source.

    Raises:
        UserError: no image can be decoded.
    """
    if data.channels is not None:
        return Channels(count=data.channels)
    total = sum(index.counts["train"][label] for label in labels)
    most = None if total <= LOOK_AT else max(1, LOOK_AT // len(labels))
    looked_at = labels if total <= LOOK_AT else spread(labels, LOOK_AT)
    grey = coloured = 0
    for item in source.read("train", looked_at, most):
        with contextlib.suppress(BadImageError):
            if channels_of(item.content) == 1:
                grey += 1
            else:
                coloured += 1
        if coloured and (grey + coloured >= ENOUGH or not index.encoded):
            break
    if grey and coloured:
        note = (
            f"{grey} of {grey + coloured} images looked at are grey, the others coloured: all are stored in colour; "
            "data.channels=1 stores them in grey"
        )
        return Channels(count=3, note=note)
    if grey or coloured:
        return Channels(count=3 if coloured else 1)
    return Channels(count=_of_first(source, labels))


def require_grey(data: Data, channels: int, item: Item) -> None:
    """Raises UserError if an image has colours although those that were looked at have none and the settings do not decide."""
    if data.channels is None and channels == 1 and channels_of(item.content) == 3:
        raise UserError(
            f"{item.where or item.path}: has colours, but the images looked at are grey; set data.channels=3 to keep the "
            "colours, or 1 to store all images in grey"
        )


def _of_first(source: Source, labels: Sequence[int]) -> int:
    """Channels of the first image that can be decoded, if none of those that were looked at can be."""
    for item in source.read("train", labels):
        with contextlib.suppress(BadImageError):
            return channels_of(item.content)
    raise UserError("the source holds no image that can be decoded; see data.on_bad_image")
