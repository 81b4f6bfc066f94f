"""The images on the page, and the animation: what is shown, and how much of it."""

import base64
import io

import pytest
import torch
from PIL import Image, ImageSequence

from m3d import Condensed
from pipeline.formats.snapshots import Snapshot
from pipeline.workflow.report.evolution import evolution
from pipeline.workflow.report.gallery import PIXELS, gallery, room_for, sprite


def condensed(classes: int, stored: int, side: int = 8, factor: int = 2) -> Condensed:
    images = torch.rand((classes, stored, 3, side, side), generator=torch.Generator().manual_seed(0))
    ids = tuple(range(classes))
    return Condensed(images_KSCHW=images, class_ids=ids, factor=factor, mean=(0.0,) * 3, std=(1.0,) * 3)


def snapshot(iteration: int, classes: int, stored: int, side: int = 8) -> Snapshot:
    level = min(255, iteration)
    return Snapshot(
        iteration=iteration, images_KSCHW=torch.full((classes, stored, 3, side, side), level, dtype=torch.uint8)
    )


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_card_has_every_picture() -> None:
    stored = condensed(2, 3)
    real = {0: torch.zeros((12, 3, 8, 8), dtype=torch.uint8)}
    shown = gallery(stored, ["a", "b"], [snapshot(0, 2, 3), snapshot(200, 2, 3)], real, [50.0, 25.0])
    first, second = shown.cards
    assert shown.iterations == [0, 200]
    assert (shown.shape, shown.real_shape, shown.views_shape) == ("3 / 1", "5 / 2", "5 / 2")
    assert picture_of(first.final).size == (24, 8)
    assert picture_of(first.frames).size == (24, 16)
    low, high = (picture_of(first.frames).convert("L").getpixel((12, y)) for y in (4, 12))
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert low < 20
    assert 190 < high < 210
    assert picture_of(first.real).size == (40, 16)
    assert picture_of(first.views).size == (40, 16)
    assert (second.real, second.accuracy) == ("", 25.0)
    # Without loss: the finished images are what networks were trained on.
    pixel = picture_of(first.final).convert("RGB").getpixel((1, 2))
    assert pixel == tuple((stored.images_KSCHW[0, 0, :, 2, 1] * 255).round().int().tolist())


def test_without_snapshots_real_images_and_tiles_only_the_finished_images_are_shown() -> None:
    shown = gallery(condensed(1, 1, factor=1), ["a"], [], {}, ())
    (card,) = shown.cards
    assert (card.frames, card.real, card.views, card.accuracy) == ("", "", "", None)


@pytest.mark.parametrize(
    ("classes", "stored", "side"),
    [(10, 10, 32), (100, 10, 32), (100, 5, 32), (100, 50, 96), (1000, 10, 224), (10_000, 1, 64)],
)
def test_the_pictures_of_a_page_are_bounded(classes: int, stored: int, side: int) -> None:
    room = room_for(classes, stored, side, frames=8, factor=2)
    pixels = room.classes * room.side**2 * room.images * (1 + room.frames)
    assert pixels <= PIXELS
    assert room.classes == min(classes, 200)
    assert room.images >= 1
    assert room.frames >= 3
    assert room.side >= 16


def test_a_small_set_is_shown_completely() -> None:
    room = room_for(10, 10, 32, frames=8, factor=2)
    assert (room.images, room.frames, room.side) == (10, 8, 32)


def test_large_images_are_reduced_in_a_sprite() -> None:
    assert sprite(torch.zeros((7, 1, 20, 20), dtype=torch.uint8), 10).size == (50, 20)


def test_the_animation_has_a_frame_per_snapshot_and_ends_with_the_set() -> None:
    content = evolution(condensed(3, 2), [snapshot(0, 3, 2), snapshot(90, 3, 2)], 100)
    assert content is not None
    frames = Image.open(io.BytesIO(content))
    assert sum(1 for _ in ImageSequence.Iterator(frames)) == 3
    assert evolution(condensed(3, 2), [], 100) is None
    assert evolution(condensed(3, 2), [snapshot(0, 2, 2)], 100) is None  # of another number of classes


def test_the_animation_of_many_classes_is_not_higher_than_its_format_allows() -> None:
    content = evolution(condensed(200, 2, side=32), [snapshot(0, 200, 2, side=32)], 100)
    assert content is not None
    assert Image.open(io.BytesIO(content)).height <= 16383


def test_few_real_images_of_a_class_without_a_card_shorten_no_card() -> None:
    real = {k: torch.zeros((12 if k < 200 else 1, 3, 2, 2), dtype=torch.uint8) for k in range(201)}
    names = [str(k) for k in range(201)]
    assert gallery(condensed(201, 2, side=2), names, [], real, []).real == 10
