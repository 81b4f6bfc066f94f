"""evolution.webp: the images from the first snapshot to the condensed set, as an animation."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from m3d import Condensed
from pipeline.formats.snapshots import IMAGES, SIDE, Snapshot
from pipeline.workflow.report.gallery import CARDS, sprite

PIXELS = 500_000
"""Most pixels of a frame; the images and classes beyond them are left out."""
FRAME_MS = 600
LAST_MS = 2400
"""Milliseconds of a frame, and of the last one."""
LARGEST_SIDE = 16383
"""Pixels along a side of a WebP picture, at most."""
BAR = 18
"""Height of the line with the iteration, in pixels."""


def evolution(stored: Condensed, snapshots: Sequence[Snapshot], iterations: int) -> bytes | None:
    """Returns the animation, a line per class, as the content of a WebP file; None without snapshots.

    Args:
        stored: the finished set.
        snapshots: by rising iteration.
        iterations: of the finished set.
    """
    images = stored.images_KSCHW
    usable = [snapshot for snapshot in snapshots if len(snapshot.images_KSCHW) == min(len(images), CARDS)]
    if not usable:
        return None
    side = min(SIDE, images.shape[-1])
    count = min(IMAGES, images.shape[1])
    classes = min(len(images), CARDS, max(1, PIXELS // (side * side)))
    count = max(1, min(count, PIXELS // (side * side * classes)))
    across = count if count > 1 else max(1, min(10, classes))
    frames = [(snapshot.iteration, snapshot.images_KSCHW) for snapshot in usable] + [(iterations, images)]
    pictures = [
        _frame(sprite(part[:classes, :count].flatten(0, 1), side, across), iteration, iterations)
        for iteration, part in frames
    ]
    buffer = io.BytesIO()
    durations = [FRAME_MS] * len(usable) + [LAST_MS]
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=80, method=4
    )
    return buffer.getvalue()


def _frame(images: Image.Image, iteration: int, iterations: int) -> Image.Image:
    """The images, enlarged if they are few, below a line with the iteration."""
    scale = max(1, min(4, 320 // images.width, (LARGEST_SIDE - BAR) // images.height))
    large = images.resize((images.width * scale, images.height * scale), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (max(150, large.width), large.height + BAR), "white")
    canvas.paste(large, (0, BAR))
    ImageDraw.Draw(canvas).text((3, 3), f"iteration {iteration} of {iterations}", fill="black")
    return canvas
