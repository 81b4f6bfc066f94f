"""The images on the page: a card for every class, with snapshots, start, real images and decoded views.

All pictures of a class are a few sprites, so that a page of a hundred classes has hundreds of pictures and not
thousands. ``Room`` decides how many images there is room for; what is left out is said on the page.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from m3d import Condensed
from pipeline.formats.snapshots import IMAGES, Snapshot, snapshot_iterations
from pipeline.observability.pages import data_url
from pipeline.workflow.report.grid import picture

PIXELS = 4_000_000
"""Most pixels of all pictures together. They take up to 6 MB of the page."""
CARDS = 200
"""Most classes with a card; grid.png has the others."""
SIDE = 96
"""Largest side of an image, in pixels."""
ACROSS = 5
"""Images in a line of a card."""
BESIDE = 10
"""Real images, and decoded views, of a class; ``FEW_BESIDE`` beside a single condensed image."""
FEW_BESIDE = 4
QUALITY = 82
"""Quality of the snapshots; the condensed images and the real ones are stored without loss."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much of a set the page shows."""

    classes: int
    images: int
    """Images of a class."""
    side: int
    """Pixels along a side."""
    frames: int
    """Snapshots."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The pictures of one class, as URLs with their content; empty if there are none."""

    name: str
    accuracy: float | None
    """Percentage of its test images that are predicted right."""
    final: str
    frames: str
    """The snapshots below each other, the start first."""
    real: str
    views: str
    """Decoded views of the first stored images."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the section of the images shows."""

    cards: Sequence[Card]
    iterations: Sequence[int]
    """Iterations of the frames, the finished images last."""
    images: int
    """Images of a class."""
    shape: str
    """``columns / lines`` of the images in a card."""
    real_shape: str
    real: int
    """Real images of a class."""
    views_shape: str
    views: int
    """Decoded views of a class."""
    factor: int


def room_for(classes: int, stored: int, side: int, *, frames: int, factor: int) -> Room:
    """Returns how much fits into ``PIXELS``: fewer snapshots, fewer images of a class, then smaller images."""
    room = Room(classes=min(classes, CARDS), images=min(stored, IMAGES), side=min(side, SIDE), frames=frames)
    while _pixels(room, factor) > PIXELS:
        classes, images, side, frames = room.classes, room.images, room.side, room.frames
        if frames > 5:
            frames -= 1
        elif images > 2:
            images -= 1
        elif frames > 3:
            frames -= 1
        else:
            side = side * 9 // 10
        room = Room(classes=classes, images=images, side=side, frames=frames)
    return room


def _pixels(room: Room, factor: int) -> int:
    views = _beside(room.images) if factor > 1 else 0
    each = room.images * (1 + room.frames) + _beside(room.images) + views
    return room.classes * room.side**2 * each


def gallery(
    stored: Condensed,
    names: Sequence[str],
    snapshots: Sequence[Snapshot],
    real: Mapping[int, Tensor],
    per_class: Sequence[float],
) -> Gallery:
    """Returns the pictures of a set.

    Args:
        stored: the condensed set before decoding.
        names: of its classes.
        snapshots: by rising iteration; none if the run has none.
        real: real images of some classes, uint8 [n, C, H, W], by label.
        per_class: accuracy of every class, or nothing.
    """
    images = stored.images_KSCHW
    classes, count, _, height, _ = images.shape
    usable = [snapshot for snapshot in snapshots if len(snapshot.images_KSCHW) == min(classes, CARDS)]
    room = room_for(classes, count, height, frames=len(usable), factor=stored.factor)
    usable = [usable[index] for index in _spread(len(usable), room.frames)]
    with_real = [len(real[k]) for k in range(room.classes) if k in real]
    shown_real = min([_beside(room.images), *with_real]) if with_real else 0
    shown_views = 0 if stored.factor == 1 else min(_beside(room.images), count * stored.factor**2)
    with_views = -(-shown_views // stored.factor**2)
    cards = []
    for k in range(room.classes):
        of_class = Condensed(
            images_KSCHW=images[k : k + 1, :with_views],
            class_ids=(k,),
            factor=stored.factor,
            mean=stored.mean,
            std=stored.std,
        )
        frames = [sprite(snapshot.images_KSCHW[k, : room.images], room.side) for snapshot in usable]
        views = of_class.views(normalise=False)[0][:shown_views] if shown_views else None
        cards.append(
            Card(
                name=names[k],
                accuracy=per_class[k] if len(per_class) == classes else None,
                final=_webp(sprite(images[k, : room.images], room.side)),
                frames=_webp(_below(frames), lossless=False) if frames else "",
                real=_webp(sprite(real[k][:shown_real], room.side)) if k in real else "",
                views=_webp(sprite(views, room.side)) if views is not None else "",
            )
        )
    return Gallery(
        cards=cards,
        iterations=[snapshot.iteration for snapshot in usable],
        images=room.images,
        shape=_shape(room.images),
        real_shape=_shape(shown_real),
        real=shown_real,
        views_shape=_shape(shown_views),
        views=shown_views,
        factor=stored.factor,
    )


def sprite(images_NCHW: Tensor, side: int, across: int | None = None) -> Image.Image:
    """Returns images beside and below each other, made smaller to ``side`` pixels if they are larger."""
    images = images_NCHW
    if images.shape[-1] > side:
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    across = across or _across(len(images))
    columns, rows = min(len(images), across), -(-len(images) // across)
    tiles = [picture(image) for image in images.numpy()]
    width, height = tiles[0].size
    canvas = Image.new("RGB", (columns * width, rows * height), "white")
    for number, tile in enumerate(tiles):
        canvas.paste(tile, (number % across * width, number // across * height))
    return canvas


def _below(frames: Sequence[Image.Image]) -> Image.Image:
    width, height = frames[0].size
    canvas = Image.new("RGB", (width, height * len(frames)))
    for number, frame in enumerate(frames):
        canvas.paste(frame, (0, number * height))
    return canvas


def _webp(image: Image.Image, *, lossless: bool = True) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=70 if lossless else QUALITY, method=4)
    return data_url(buffer.getvalue(), "image/webp")


def _spread(count: int, most: int) -> list[int]:
    """Returns up to ``most`` of ``count`` positions, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({int(position) for position in np.linspace(0, count - 1, most).round()})


def _beside(images: int) -> int:
    return BESIDE if images > 1 else FEW_BESIDE


def _across(count: int) -> int:
    """Images in a line: few form a square."""
    return 2 if count == 4 else ACROSS


def _shape(count: int) -> str:
    across = _across(count)
    return f"{min(count, across) or 1} / {-(-count // across) or 1}"


def why_no_snapshots(snapshots: int, iterations: int) -> str:
    """Returns why a finished run has no snapshots, given its settings."""
    if not snapshots or not snapshot_iterations(iterations, snapshots):
        return "The run stored no snapshots (report.snapshots is 0)."
    return (
        "No complete snapshots are stored: the run was condensed before there were any, or its snapshots folder is gone. "
        "So the start and the way between are not shown."
    )
