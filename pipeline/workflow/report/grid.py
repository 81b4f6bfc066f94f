"""grid.png: the first stored images of every class, with its name."""

import io

import numpy as np
from PIL import Image, ImageDraw

from m3d import Condensed
from pipeline.observability.pages import drawable

COLUMNS = 10
"""Largest number of stored images in a line of the grid, and of one class."""
SIDE = 96
"""Smallest side of an image in the grid, in pixels."""
LETTER = 7
"""Width of a letter of the class names, in pixels."""
GAP = 2
"""Distance between images of the grid, in pixels."""
GRID_PIXELS = 2**28
"""Most pixels of the grid, a gigabyte in memory; the classes beyond them are left out, since images of a pixel each would be enlarged to terabytes."""


def grid_image(condensed: Condensed, names: list[str]) -> Image.Image:
    """Returns each class's name and first stored images, enlarged to at least ``SIDE`` pixels; small sets side by side."""
    images = condensed.images_KSCHW[:, :COLUMNS].numpy()
    _, shown, _, height, _ = images.shape
    side = height * max(1, -(-SIDE // height)) + GAP
    label = 16 + LETTER * max(len(drawable(name)) for name in names)
    classes = min(len(images), max(1, GRID_PIXELS // ((label + shown * side) * side)))
    across = min(classes, COLUMNS // shown)
    canvas = Image.new("RGB", (across * (label + shown * side), -(-classes // across) * side), "white")
    draw = ImageDraw.Draw(canvas)
    for k in range(classes):
        top, left = k // across * side, k % across * (label + shown * side)
        draw.text((left + 8, top + side // 2 - 6), drawable(names[k]), fill="black")
        for column in range(shown):
            tile = picture(images[k, column]).resize((side - GAP, side - GAP), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + label + column * side, top))
    return canvas


def picture(image_CHW: np.ndarray) -> Image.Image:
    """Returns an image of pixels in [0, 1], or of bytes, in RGB."""
    if image_CHW.dtype != np.uint8:
        image_CHW = np.round(np.clip(np.nan_to_num(image_CHW), 0, 1) * 255).astype(np.uint8)
    array = image_CHW.transpose(1, 2, 0)
    return Image.fromarray(array.squeeze(-1) if array.shape[2] == 1 else array).convert("RGB")


def png(image: Image.Image) -> bytes:
    """Returns the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
