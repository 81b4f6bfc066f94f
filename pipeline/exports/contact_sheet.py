"""A picture of a set: a line of images per class, in label order."""

import io

import numpy as np
from PIL import Image

from pipeline.exports.card import SHOWN
from pipeline.exports.portable_set import PortableSet
from pipeline.formats.png import eight_bit

CLASSES = 100
"""Most classes; with more, those between are left out evenly."""
SIDE = 64
"""Smallest side of an image in the picture, in pixels."""
WIDTH = 1280
"""Width in pixels up to which lines of several classes stand side by side."""
GAP = 2
"""White pixels between images."""
WIDE_GAP = 10
"""White pixels between classes that stand side by side."""


def contact_sheet(images: PortableSet) -> bytes:
    """Returns the picture as PNG."""
    count, shown = min(CLASSES, len(images.classes)), min(SHOWN, images.per_class)
    channels, height, width = images.shape
    labels = np.linspace(0, len(images.classes) - 1, count).round().astype(int)
    chosen = eight_bit(images.images.view(-1, images.per_class, channels, height, width)[labels, :shown])
    scale = max(1, -(-SIDE // height))
    side = height * scale + GAP
    line = shown * side + WIDE_GAP
    across = max(1, min(count, WIDTH // line))
    sheet = np.full((-(-count // across) * side - GAP, across * line - WIDE_GAP - GAP, 3), 255, np.uint8)
    for place in range(count):
        for column in range(shown):
            top, left = place // across * side, place % across * line + column * side
            tile = chosen[place, column].transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
            sheet[top : top + side - GAP, left : left + side - GAP] = tile  # a grey one fills all three channels
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
