"""Multi-formation: one stored image holds factor x factor tiles, each decoded to a full-size view.

    F  factor    T = F * F tiles    s  side of a tile, ceil(side of the image / F)

If the factor does not divide the size, the image is padded at the right and the bottom with 0.5. Source: IDC.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d.config import ConfigError
from m3d.shapes import Float, ShapeError

PADDING = 0.5


def tile_sides(size: int, factor: int) -> list[int]:
    """Visible pixels of the tiles along one side: ``ceil(size / factor)`` each, the last one the remainder.

    Raises:
        ConfigError: the last tile would have no pixel.
    """
    side = -(-size // factor)
    sides = [min(side, size - i * side) for i in range(factor)]
    if sides[-1] < 1:
        text = f"given {factor}, but an image of {size} px has no room for {factor} tiles a side; lower it"
        raise ConfigError(text, field="factor")
    return sides


def decode(images: Float[Tensor, "*batch S C H W"], factor: int) -> Float[Tensor, "*batch M C H W"]:
    """Every tile of every stored image, up-sampled bilinearly to the full size.

    Args:
        images: stored images in [0, 1], not normalised.
        factor: tiles along a side; with 1 the images are returned unchanged.

    Returns:
        S * factor**2 views, the tiles of one image next to each other, row by row.
    """
    if factor == 1:
        return images
    tiles = cut(images, factor)
    views = enlarge(tiles.flatten(0, -4), (images.shape[-2], images.shape[-1]))
    return views.view(*tiles.shape[:-2], *images.shape[-2:])


def cut(images: Float[Tensor, "*batch S C H W"], factor: int) -> Float[Tensor, "*batch M C h w"]:
    """The tiles of every stored image before up-sampling, in the order of ``decode``.

    Raises:
        ConfigError: the factor is too large for the images.
        ShapeError: fewer than four axes.
    """
    if images.ndim < 4:
        raise ShapeError("images", tuple(images.shape), "[..., stored, channels, height, width]")
    if factor == 1:
        return images
    *batch, stored, channels, height, width = images.shape
    for size in (height, width):
        tile_sides(size, factor)  # refuses a factor that is too large
    side_y, side_x = -(-height // factor), -(-width // factor)
    flat = images.reshape(-1, channels, height, width)
    flat = F.pad(flat, (0, side_x * factor - width, 0, side_y * factor - height), value=PADDING)
    tiles = flat.view(-1, channels, factor, side_y, factor, side_x).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(*batch, stored * factor**2, channels, side_y, side_x)


def enlarge(tiles: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Tiles up-sampled bilinearly to ``size`` (height, width); tiles of that size are returned unchanged.

    Equals ``F.interpolate(..., mode="bilinear", align_corners=False)`` up to rounding, but as a product with a matrix on
    either side: the compiled backward pass of ``F.interpolate`` scatters its writes and is several times slower.
    """
    if tuple(tiles.shape[-2:]) == size:
        return tiles
    rows = _weights(tiles.shape[-2], size[0], tiles)
    columns = _weights(tiles.shape[-1], size[1], tiles)
    return rows @ tiles @ columns.mT


def _weights(entering: int, leaving: int, like: Tensor) -> Tensor:
    """Share of every input pixel in every output pixel, [leaving, entering]."""
    positions = torch.arange(leaving, device=like.device, dtype=like.dtype)
    positions = ((positions + 0.5) * (entering / leaving) - 0.5).clamp(0, entering - 1)
    pixels = torch.arange(entering, device=like.device, dtype=like.dtype)
    return (1 - (positions[:, None] - pixels[None, :]).abs()).clamp_min(0)


def mosaic(images: Float[Tensor, "S T C H W"], factor: int) -> Float[Tensor, "S C H W"]:
    """Stored images that show factor**2 images each, every one shrunk to its tile, row by row.

    Shrinking is bilinear with antialiasing.

    Args:
        images: T = factor**2 images for each of the S stored ones, in [0, 1].
        factor: tiles along a side.

    Raises:
        ShapeError: T is not factor**2.
    """
    stored, count, channels, height, width = images.shape
    if count != factor**2:
        raise ShapeError("images", tuple(images.shape), f"[stored, {factor**2}, channels, height, width]")
    if factor == 1:
        return images[:, 0]
    canvas = images.new_full((stored, channels, height, width), PADDING)
    rows, columns = tile_sides(height, factor), tile_sides(width, factor)
    for tile in range(count):
        i, j = divmod(tile, factor)
        small = F.interpolate(images[:, tile], size=(rows[i], columns[j]), mode="bilinear", antialias=True)
        top, left = i * rows[0], j * columns[0]
        canvas[:, :, top : top + rows[i], left : left + columns[j]] = small
    return canvas.clamp(0, 1)
