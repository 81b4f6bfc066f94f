"""Images in encoded files, PNG in an export: how a set is cut into them, and how those of a source become a set again.

The sources of ``pipeline.data`` read the files, so layouts, labels and damaged images are handled as for real data.
"""

import numpy as np
import torch

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.decode_image import channels_of, pixels, size_of
from pipeline.data.shown_image import BadImageError
from pipeline.data.sources import Item, open_source
from pipeline.errors import UserError
from pipeline.exports.incoming import Incoming
from pipeline.storage.local.regular_files import MOST_BYTES

NUMBERED = "class{label:05d}_id{index:05d}"
"""Name of an image by its label and its index in the class, without ending."""


def numbered(position: int, per_class: int) -> str:
    """Returns the name of an image by its position in the set, without ending."""
    label, index = divmod(position, per_class)
    return NUMBERED.format(label=label, index=index)


def read_encoded(data: Data) -> Incoming:
    """Returns all training images of a source.

    Args:
        data: kind and path of the source.

    Raises:
        UserError: there are no images, one cannot be decoded, or they have different sizes.
    """
    source = open_source(data)
    index = source.index()
    labels = range(len(index.class_names))
    items = list(source.read("train", labels))
    # Images arrive in the order of their names, or say their place in it.
    items.sort(key=lambda item: (item.label, item.rank if item.rank is not None else 0))
    if not items:
        raise UserError(f"{data.path}: holds no images")
    images = _decoded(items)
    return Incoming(
        images=torch.from_numpy(images).float() / 255,
        labels=torch.tensor([item.label for item in items]),
        names=index.class_names,
    )


def _decoded(items: list[Item]) -> np.ndarray:
    """uint8 [n, C, H, W]."""
    place = items[0].path
    try:
        first = size_of(items[0].content)
        channels = max(channels_of(item.content) for item in items if not item.problem)
        if first[0] != first[1]:
            raise UserError(
                f"{items[0].where or place}: is {first[0]} x {first[1]} px; a condensed set has square images"
            )
        if len(items) * channels * first[0] ** 2 > MOST_BYTES:
            raise UserError(f"{place}: is one of {len(items)} images, which together need more than {MOST_BYTES} bytes")
        decoded = np.empty((len(items), channels, first[1], first[0]), np.uint8)
        for position, item in enumerate(items):
            place = storage.readable(item.where or item.path)
            if item.problem:
                raise BadImageError(item.problem)
            size = size_of(item.content)
            if size != first:
                raise UserError(
                    f"{place}: is {size[0]} x {size[1]} px, the first image is {first[0]} x {first[1]}; a condensed set has images of "
                    "one size"
                )
            decoded[position] = pixels(item.content, first[0], channels)
    except BadImageError as error:
        raise UserError(f"{place}: cannot be decoded ({error}); export the set again, or remove the image") from None
    return decoded
