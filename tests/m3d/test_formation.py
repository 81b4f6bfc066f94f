"""Tiles of stored images: their source, their position, and the contents of padded tiles."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from m3d import ConfigError, ShapeError, decode, mosaic
from m3d.formation import enlarge, tile_sides
from tests.helpers import assert_close, random

CASES = [(size, factor) for size in (28, 32, 10, 7) for factor in (1, 2, 3)]


def enlarged(tile, size):
    """Bilinear up-sampling of a square tile [s, s] without aligned corners, in plain loops."""
    side = len(tile)

    def place(i):
        at = min(max((i + 0.5) * side / size - 0.5, 0.0), side - 1.0)
        low = min(int(at), side - 1)
        return low, min(low + 1, side - 1), at - low

    out = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            (a, b, p), (c, d, q) = place(i), place(j)
            top = tile[a, c] * (1 - q) + tile[a, d] * q
            bottom = tile[b, c] * (1 - q) + tile[b, d] * q
            out[i, j] = top * (1 - p) + bottom * p
    return out


def padded_tile(image, factor, i, j):
    """Tile (i, j) of an image [H, W], 0.5 outside of the image."""
    side = -(-len(image) // factor)
    tile = torch.full((side, side), 0.5, dtype=image.dtype)
    part = image[i * side : (i + 1) * side, j * side : (j + 1) * side]
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


@pytest.mark.parametrize(("size", "factor"), CASES)
def test_smoke_and_cardinality(size, factor):
    images = random(2, 3, 1, size, size).sigmoid()
    assert decode(images, factor).shape == (2, 3 * factor**2, 1, size, size)
    assert decode(images[0], factor).shape == (3 * factor**2, 1, size, size)
    tiles = random(2, factor**2, 3, size, size).sigmoid()
    assert mosaic(tiles, factor).shape == (2, 3, size, size)


@pytest.mark.parametrize(("size", "factor"), CASES)
def test_decode_feature(size, factor):
    """Every view is its own tile, row by row, image after image, bilinear, with 0.5 beyond the border."""
    images = random(2, 1, size, size).sigmoid()
    views = decode(images, factor)
    for s in range(2):
        for tile in range(factor**2):
            i, j = divmod(tile, factor)
            expected = enlarged(padded_tile(images[s, 0], factor, i, j), size)
            assert_close(views[s * factor**2 + tile, 0], expected)


@pytest.mark.parametrize(("size", "factor"), CASES)
def test_decode_of_mosaic_shows_each_image_in_its_place(size, factor):
    """Images of one value each: a view holds its image's value wherever no padding reaches."""
    values = torch.linspace(0.0, 0.9, factor**2)
    images = values.view(1, -1, 1, 1, 1).expand(1, factor**2, 2, size, size)
    views = decode(mosaic(images, factor), factor)
    sides, side = tile_sides(size, factor), -(-size // factor)
    for tile, value in enumerate(values):
        i, j = divmod(tile, factor)
        visible_y, visible_x = (int((sides[k] - 0.5) * size / side) if sides[k] < side else size for k in (i, j))
        view = views[tile]
        assert torch.allclose(view[:, :visible_y, :visible_x], value)
        if size % factor == 0:
            assert float(view[0, size // 2, size // 2]) == pytest.approx(float(value))
        if sides[i] < side:
            assert torch.allclose(view[:, -1], torch.tensor(0.5))


@pytest.mark.parametrize(("size", "factor"), CASES)
def test_mosaic_puts_tiles_row_by_row(size, factor):
    images = torch.arange(2.0 * factor**2).view(2, factor**2, 1, 1, 1) / 20
    stored = mosaic(images.expand(-1, -1, 1, size, size), factor)
    side = -(-size // factor)
    for y in range(size):
        for x in range(size):
            tile = (y // side) * factor + x // side
            assert_close(stored[:, 0, y, x], images[:, tile, 0, 0, 0], torch.float32)


def test_mosaic_shrinks_the_whole_image():
    ramp = torch.linspace(0, 1, 16).view(1, 1, 1, 1, 16).expand(1, 4, 1, 16, 16)
    stored = mosaic(ramp, 2)[0, 0]
    for left in (0, 8):
        row = stored[3, left : left + 8]
        assert row.diff().min() > 0
        assert float(row.mean()) == pytest.approx(0.5, abs=1e-3)
        assert float(row[0]) < 0.1
        assert float(row[-1]) > 0.9


@pytest.mark.parametrize(("entering", "leaving"), [(16, 32), (5, 7), (11, 32), (75, 224), (8, 8)])
def test_enlarge_is_bilinear_interpolation(entering, leaving):
    tiles = random(2, 3, entering, entering + 1)
    expected = F.interpolate(tiles, size=(leaving, leaving + 1), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarge(tiles, (leaving, leaving + 1)), expected, atol=1e-6, rtol=1e-6)


def test_factor_1_is_identity():
    images = random(2, 3, 1, 7, 7)
    assert decode(images, 1) is images
    assert torch.equal(mosaic(images[:, :1], 1), images[:, 0])


@pytest.mark.parametrize(("size", "factor"), [(32, 2), (28, 3), (7, 2), (10, 3)])
def test_gradients_reach_every_visible_pixel(size, factor):
    images = torch.full((2, 1, size, size), 0.4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(decode(images, factor).sum(), images)
    assert gradient.min() > 0.1


def test_gradcheck():
    images = random(1, 2, 1, 5, 5).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: decode(x, 2), (images,))


@given(size=st.integers(1, 40), factor=st.integers(1, 16), stored=st.integers(1, 3), channels=st.integers(1, 3))
def test_any_size_and_factor(size, factor, stored, channels):
    side = -(-size // factor)
    images = torch.rand(stored, channels, size, size)
    if (factor - 1) * side >= size:
        with pytest.raises(ConfigError):
            tile_sides(size, factor)
        return
    sides = tile_sides(size, factor)
    assert sum(sides) == size
    assert len(sides) == factor
    views = decode(images, factor)
    assert views.shape == (stored * factor**2, channels, size, size)
    low, high = min(0.5, float(images.min())), max(0.5, float(images.max()))
    assert low - 1e-6 <= float(views.min()) <= float(views.max()) <= high + 1e-6


@pytest.mark.parametrize(("size", "factor"), [(7, 8), (2, 3), (10, 7)])
def test_exception_too_large_a_factor(size, factor):
    match = rf"factor: given {factor}, but an image of {size} px has no room for {factor} tiles a side; lower it"
    with pytest.raises(ConfigError, match=match):
        decode(torch.rand(1, 1, size, size), factor)


def test_exception_shapes():
    with pytest.raises(ShapeError, match=r"images has shape \[1, 3, 1, 8, 8\]; expected \[stored, 4, channels"):
        mosaic(torch.rand(1, 3, 1, 8, 8), 2)
